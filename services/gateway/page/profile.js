// The left side: the profile as it is stored, the unsaved edit of it, and what goes on between the two.

import { call } from "./api.js";
import { avoided, showAvoid } from "./avoid.js";
import { showConflict } from "./conflict.js";
import { $, button, complain, element, grow, pressed, say, when, word } from "./dom.js";
import { fetchEvidence } from "./evidence.js";
import { forgetRanking, showPreview, showRanking, showSavedAgain } from "./ranking.js";
import { showRevisions } from "./revisions.js";
import { NONE, NOT_TRUE, Sentences } from "./sentences.js";
import { showSuggestion } from "./suggestion.js";

const SERVICE = "ProfileService";
const PAUSE = 60; // milliseconds of not typing before a preview is asked for; a newer one calls the one that runs off
const WRITING = 300_000; // milliseconds that the encoder may take
const ORIGINS = {
  generated: "Written from your history",
  edited: "In your own words",
  restored: "An earlier text",
  suggested: "A suggestion that you took",
};

let user = "";
let page = {}; // as it is stored: profile, suggestion, marks, and what else comes with them
let draft = ""; // the text as it stands on the screen
let accepting = false; // whether the draft was taken from the suggestion
let typing = 0; // timer of the next preview
const list = new Sentences({ write, mark });

/** Show `name`'s profile and ranking. An edit of the same user's that is not saved stays. */
export async function openProfile(name) {
  if (name === user && unsaved()) return void ($("profile-view").hidden = false);
  if (name !== user) {
    forgetRanking();
    for (const part of ["profile-view", "revisions"]) $(part).hidden = true;
  }
  user = name;
  const found = await stored();
  if (name !== user) return; // another one was opened meanwhile
  show(found);
  $("profile-view").hidden = false;
  await around();
}

/** What stands around the saved profile: the list, the evidence, earlier texts, what the user avoids. */
async function around() {
  if (page.profile) fetchEvidence(user, () => list.flagAgain());
  showAvoid(user, page.avoid ?? (page.profile ? [] : await avoided(user)), rankAgain);
  await Promise.all([showRanking(user, follow), showRevisions(user, page.profile, { restored, conflicted })]);
}

/** Something else than the text has changed what is ranked by. */
async function rankAgain() {
  await showRanking(user, follow);
  if (unsaved()) await preview();
}

/** Whose profile is open. */
export const openUser = () => user;

/** Whether the text on the screen is another than the stored one. */
export function unsaved() {
  return user !== "" && draft.trim() !== text();
}

const text = () => page.profile?.text ?? "";
const etag = () => page.profile?.etag ?? "";

async function stored() {
  try {
    return await call(SERVICE, "GetProfile", { userId: user });
  } catch (problem) {
    if (problem.code === "not_found") return {};
    throw problem;
  }
}

function show(found) {
  page = { ...found, marks: new Map((found.marks ?? []).map((each) => [each.sentence, each.mark])) };
  const { profile, suggestion } = page;
  accepting = false;
  $("profile-about").replaceChildren(...(profile ? about(profile) : [`${user} has none yet.`]));
  $("empty").hidden = Boolean(profile);
  $("words").hidden = !profile;
  $("as-text").hidden = $("regenerate").hidden = !profile;
  $("conflict").hidden = true;
  showSuggestion(suggestion, text(), { take, dismiss });
  const denied = [...page.marks].filter(([, mark]) => mark === NOT_TRUE).map(([sentence]) => sentence);
  $("denied").hidden = !denied.length;
  $("denied-list").replaceChildren(
    ...denied.map((sentence) =>
      element(
        "li",
        {},
        element("s", {}, sentence),
        " ",
        button("Allow again", () => mark(sentence, NONE), { "aria-label": `Allow again: ${sentence}`, class: "small" }),
      ),
    ),
  );
  put(text());
}

function about(profile) {
  const generated = profile.origin === "PROFILE_ORIGIN_GENERATED" && profile.interactions;
  const origin = generated
    ? `Written from ${profile.interactions} of your ratings`
    : ORIGINS[word(profile.origin, "PROFILE_ORIGIN_")];
  const since = page.refreshPending
    ? " A new one is being written."
    : page.newInteractions
      ? ` ${page.newInteractions} new ratings since.`
      : "";
  return [`${origin}, `, when(profile.createTime), `. Revision ${profile.revision}.${since}`];
}

/** The draft is `value`, wherever it comes from, and is shown so. */
function put(value) {
  draft = value;
  list.show(draft, text(), page.marks);
  $("text").value = draft;
  showUnsaved();
}

function showUnsaved() {
  $("unsaved").hidden = !unsaved();
  if (!$("text").hidden) grow($("text"));
}

/** The draft is `value` as it is typed; the list follows after a pause. */
function write(value) {
  draft = value;
  showUnsaved();
  clearTimeout(typing);
  typing = setTimeout(preview, PAUSE);
}

function preview() {
  if (unsaved() && draft.trim()) return showPreview(user, draft);
  return showSavedAgain();
}

/** From a reason in the list to the sentence that it names. */
function follow(sentence) {
  asText(false);
  if (!list.reach(sentence)) say("This sentence is not in the text any more.");
}

async function mark(sentence, value) {
  if (unsaved()) throw new Error("Save or discard your edit first.");
  await guarded(() => call(SERVICE, "MarkProfileSentence", { userId: user, sentence, mark: value, etag: etag() }));
  await reload(value === NOT_TRUE ? "Taken out; it will not be written again." : "Remembered.");
  if (!list.reach(sentence)) $("profile-title").focus();
}

/** `work` on the newest text; when somebody else was first, theirs is shown before anything is lost. */
async function guarded(work) {
  try {
    return await work();
  } catch (problem) {
    if (problem.code === "aborted") await conflicted();
    throw problem.code === "aborted"
      ? new Error("The profile was changed elsewhere meanwhile. Look it over and try again.")
      : problem;
  }
}

async function conflicted() {
  show(await stored());
  await around();
}

async function reload(told) {
  await conflicted();
  say(told);
}

const restored = (revision) => reload(`Revision ${revision} is the profile again.`);

async function save() {
  const [service, request] = accepting ? ["AcceptProfileSuggestion", { mergedText: draft }] : ["UpdateProfile", { text: draft }];
  if (!draft.trim()) throw new Error("A profile cannot be empty. Remove sentences until one is left, or discard your edit.");
  try {
    await call(SERVICE, service, { userId: user, etag: etag(), ...request });
  } catch (problem) {
    if (problem.code === "aborted") return clash();
    throw problem;
  }
  await reload("Saved. The list follows your words.");
  $("profile-title").focus();
}

/** Somebody else saved first: both texts are shown, and nothing is lost until a choice is made. */
async function clash() {
  const [base, mine] = [text(), draft];
  const found = await stored();
  showConflict({ base, mine, theirs: found.profile?.text ?? "" }, (chosen) => {
    show(found);
    put(chosen);
    preview();
    say(unsaved() ? "Look it over, then save." : "Yours was discarded.");
    $("profile-title").focus();
  });
}

/** Lay a text that the suggestion gave on the screen, not saved yet. */
function take(value) {
  put(value);
  accepting = true;
  $("words").hidden = false;
  $("suggestion").hidden = true;
  $("save").focus();
  return preview();
}

async function dismiss() {
  await call(SERVICE, "DismissProfileSuggestion", { userId: user });
  page.suggestion = null;
  $("suggestion").hidden = true;
  $("profile-title").focus();
  say("Dismissed.");
}

async function regenerate() {
  if (unsaved()) throw new Error("Save or discard your edit first.");
  say("Writing from your history …");
  const { suggestion } = await guarded(() => call(SERVICE, "RefreshProfile", { userId: user }, { timeout: WRITING }));
  await reload(suggestion ? "Your words stay as they are. A suggestion lies beside them." : "Written anew.");
  (suggestion ? $("suggestion") : $("profile-title")).focus();
}

function asText(on) {
  $("as-text").setAttribute("aria-pressed", String(on));
  $("sections").hidden = $("add-line").hidden = $("how").hidden = on;
  $("text").hidden = $("text-label").hidden = !on;
  put(draft);
  if (on) $("text").focus();
}

$("text").addEventListener("input", () => write($("text").value));
$("as-text").addEventListener("click", () => asText($("text").hidden));
$("save").addEventListener("click", pressed(save));
$("words").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !unsaved()) return;
  event.preventDefault();
  save().catch(complain);
});
$("discard").addEventListener("click", () => {
  show({ ...page, marks: [...page.marks].map(([sentence, mark]) => ({ sentence, mark })) });
  preview();
  $("profile-title").focus();
});
for (const each of ["regenerate", "have-written"]) $(each).addEventListener("click", pressed(regenerate));
$("write").addEventListener("click", () => {
  $("empty").hidden = true;
  $("words").hidden = false;
  $("add").click();
});
