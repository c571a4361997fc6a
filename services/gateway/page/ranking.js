// The right side: the list as it is, or as an unsaved text would make it, each item with how far it would move.

import { call } from "./api.js";
import { $, button, element, word } from "./dom.js";

const SERVICE = "RecommendationService";
const SHOWN = 10;
const LONGEST = 220; // characters of a description
const SLOW = 400; // milliseconds after which it is said that something is under way
const MOVING = { duration: 260, easing: "ease-out" };

let asking = new AbortController(); // of the newest question; an answer to an older one is dropped
let saved = null; // the newest list by what is saved

/** The list by what is saved. `follow(sentence)` is called for a sentence that is chosen as a reason. */
export async function showRanking(user, follow) {
  await ask("Recommend", { userId: user, k: SHOWN, explain: true }, (found) => {
    saved = () => showSaved(found, follow);
    saved();
  });
}

/** The list by `text`, which is not saved. */
export async function showPreview(user, text) {
  await ask("Preview", { userId: user, text, k: SHOWN }, showUnsaved);
}

/** The saved list again, without asking. */
export function showSavedAgain() {
  asking.abort();
  busy(false);
  $("ranking-problem").hidden = true;
  saved?.();
}

/** Forget the list of another user. */
export function forgetRanking() {
  asking.abort();
  saved = null;
  $("items").replaceChildren();
  $("ranking-about").textContent = "";
  for (const part of ["leaving", "ranking-problem"]) $(part).hidden = true;
}

async function ask(method, request, show) {
  asking.abort();
  const mine = (asking = new AbortController());
  const slow = setTimeout(() => busy(true), SLOW);
  try {
    const found = await call(SERVICE, method, request, { signal: mine.signal });
    if (mine.signal.aborted) return;
    $("ranking-problem").hidden = true;
    show(found);
  } catch (problem) {
    if (mine.signal.aborted) return;
    fail(problem, () => ask(method, request, show));
  } finally {
    clearTimeout(slow);
    if (asking === mine) busy(false);
  }
}

function busy(is) {
  $("items").setAttribute("aria-busy", String(is));
}

function fail(problem, again) {
  $("ranking-problem").replaceChildren(
    element("p", {}, `The list could not be brought up to date. ${problem.message}`),
    element("p", { class: "actions" }, button("Try again", again)),
  );
  $("ranking-problem").hidden = false;
}

function showSaved(found, follow) {
  $("ranking").classList.remove("preview");
  const basis = { profile: "your profile", history: "your history", popularity: "what most people chose" }[
    word(found.basis, "RANKING_BASIS_")
  ];
  const why = found.basisReason ? ` because ${found.basisReason}` : "";
  const release = found.versions?.releaseId ? `, release ${found.versions.releaseId}` : "";
  $("ranking-about").textContent = `By ${basis}${why}${release}.`;
  fill(found.items ?? [], (place, at) => row(place, null, reason(found.reasons?.[at]?.sentence, follow)));
  $("leaving").hidden = true;
}

function showUnsaved(found) {
  $("ranking").classList.add("preview");
  $("ranking-about").textContent = "Preview of your edit. Nothing is saved yet.";
  fill(found.items ?? [], (place) => row(place, move(place)));
  const leaving = found.leaving ?? [];
  $("leaving").hidden = !leaving.length;
  $("leaving-items").replaceChildren(
    ...leaving.map((place) => element("li", {}, element("span", { class: "title" }, place.item.title), " ", move(place))),
  );
}

/** Put the rows in; an item that was there before slides from its old place to its new one. */
function fill(places, made) {
  const tops = new Map([...$("items").children].map((row) => [row.dataset.item, row.offsetTop]));
  $("items").replaceChildren(...places.map(made));
  if (!places.length)
    $("items").replaceChildren(element("li", { class: "quiet" }, "The catalogue is empty, or you have seen all of it."));
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const row of $("items").children) {
    const from = tops.get(row.dataset.item) - row.offsetTop;
    if (from) row.animate([{ transform: `translateY(${from}px)` }, { transform: "none" }], MOVING);
  }
}

function row(place, moved, why = null) {
  const { itemId, title, description = "", categories = [], price, averageRating } = place.item;
  const facts = [
    categories.join(", "),
    averageRating == null ? "" : `${averageRating.toFixed(1)} of 5`,
    price == null ? "" : price.toFixed(2),
  ];
  const what = description.length > LONGEST ? `${description.slice(0, LONGEST).trimEnd()}…` : description;
  return element(
    "li",
    { class: "item", "data-item": itemId },
    element("span", { class: "place" }, String(place.position)),
    element(
      "div",
      {},
      element(
        "p",
        { class: "top" },
        element(
          "span",
          {},
          element("span", { class: "title" }, title),
          " ",
          element("span", { class: "facts" }, facts.filter(Boolean).join(" · ")),
        ),
        moved,
      ),
      what && element("p", { class: "what" }, what),
      why,
    ),
  );
}

function reason(sentence, follow) {
  if (!sentence) return null;
  const said = element("q", { "data-sentence": sentence }, sentence);
  return element("button", { class: "why", type: "button", onclick: () => follow(sentence) }, "Because it says ", said);
}

function move(place) {
  const before = Number(place.previousPosition ?? 0);
  const by = before - Number(place.position);
  if (!before) return null;
  if (!by) return element("span", { class: "move" }, "stays");
  const [sign, kind] = by > 0 ? ["▲", "up"] : ["▼", "down"];
  return element(
    "span",
    { class: `move ${kind}` },
    element("span", { "aria-hidden": "true" }, `${sign} ${Math.abs(by)} `),
    element("span", { class: "unseen" }, `${kind} ${Math.abs(by)}, `),
    by > 0 ? `from ${before}` : `from ${before} to ${place.position}`,
  );
}
