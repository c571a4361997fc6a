// The right side: the list as it is, or as an unsaved text would make it, each item with how far it would move.

import { call } from "./api.js";
import { $, element, word } from "./dom.js";

const SERVICE = "RecommendationService";
const SHOWN = 10;
const LONGEST = 180; // characters of a description

/** The list by what is saved. */
export async function showRanking(user) {
  const found = await call(SERVICE, "Recommend", { userId: user, k: SHOWN, explain: true });
  const basis = word(found.basis, "RANKING_BASIS_");
  $("ranking-about").textContent = found.basisReason ? `By ${basis}: ${found.basisReason}.` : `By your profile, release ${found.versions.releaseId}.`;
  $("items").replaceChildren(...(found.items ?? []).map((place, at) => row(place, null, found.reasons?.[at])));
  $("leaving").hidden = true;
}

/** The list by `text`, which is not saved. */
export async function showPreview(user, text, signal) {
  const found = await call(SERVICE, "Preview", { userId: user, text, k: SHOWN }, { signal });
  $("ranking-about").textContent = "Preview of your edit: nothing is saved yet.";
  $("items").replaceChildren(...(found.items ?? []).map((place) => row(place, move(place))));
  const leaving = found.leaving ?? [];
  $("leaving").hidden = !leaving.length;
  $("leaving-items").replaceChildren(...leaving.map((place) => row(place, move(place))));
}

function row(place, moved = null, reason = null) {
  const { title, description = "", categories = [], price } = place.item;
  const what = description.length > LONGEST ? `${description.slice(0, LONGEST)}…` : description;
  const facts = [categories.join(", "), price === undefined ? "" : price.toFixed(2)].filter(Boolean).join(" · ");
  return element("li", {},
    element("span", { class: "place" }, String(place.position)),
    element("span", { class: "title" }, title),
    moved,
    element("span", { class: "what" }, facts ? `${facts}. ${what}` : what),
    reason?.sentence ? element("span", { class: "why" }, "Because: ", element("q", {}, reason.sentence)) : null);
}

function move(place) {
  const before = Number(place.previousPosition ?? 0);
  const by = before - Number(place.position);
  if (!before) return element("span", { class: "move" }, "");
  if (!by) return element("span", { class: "move" }, "stays");
  const [sign, kind, said] = by > 0 ? ["▲", "up", "up"] : ["▼", "down", "down"];
  return element("span", { class: `move ${kind}`, title: `was ${before}`, role: "img", "aria-label": `${said} ${Math.abs(by)} from ${before}` },
    `${sign} ${Math.abs(by)} from ${before}`);
}
