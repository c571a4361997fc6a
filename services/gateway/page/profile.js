// The left side: the text with its unsaved edit, the suggestion beside it, what is said of each sentence.

import { call } from "./api.js";
import { $, element, pressed, say, when, word } from "./dom.js";
import { showPreview, showRanking } from "./ranking.js";
import { showRevisions } from "./revisions.js";

const SERVICE = "ProfileService";
const PAUSE = 200; // milliseconds of not typing before a preview is asked for
const WRITING = 300_000; // milliseconds that the encoder may take

let user = "";
let profile = null; // as it is stored; null without one
let suggestion = null;
let marks = new Map(); // sentence -> mark
let typing = 0; // timer of the next preview
let asking = null; // AbortController of the running one

/** Show `name`'s profile and ranking. */
export async function openProfile(name) {
  user = name;
  say(`Opening ${user} ...`);
  const page = await stored();
  show(page);
  await Promise.all([showRanking(user), showRevisions(user, profile, restored)]);
  say("");
}

/** Whether the text holds words that are not saved. */
export function unsaved() {
  return user !== "" && $("text").value !== (profile?.text ?? "");
}

async function stored() {
  try {
    return await call(SERVICE, "GetProfile", { userId: user });
  } catch (problem) {
    if (problem.code === "not_found") return {};
    throw problem;
  }
}

function show(page) {
  profile = page.profile ?? null;
  suggestion = page.suggestion ?? null;
  marks = new Map((page.marks ?? []).map((each) => [each.sentence, each.mark]));
  $("profile-body").hidden = false;
  $("profile-about").textContent = profile
    ? `${word(profile.origin, "PROFILE_ORIGIN_")}, revision ${profile.revision}, ${when(profile.createTime)}`
    : "None yet: write one, or press Regenerate to have it written from the history.";
  $("text").value = profile?.text ?? "";
  $("suggestion").hidden = !suggestion;
  $("suggestion-text").textContent = suggestion?.text ?? "";
  $("conflict").hidden = true;
  showSentences();
  showDirty();
}

function showSentences() {
  const said = new Intl.Segmenter("en", { granularity: "sentence" });
  const sentences = [...said.segment(profile?.text ?? "")].map((each) => each.segment.trim()).filter(Boolean);
  const denied = [...marks].filter(([, mark]) => mark === "SENTENCE_MARK_NOT_TRUE").map(([sentence]) => sentence);
  $("sentences").replaceChildren(...sentences.map(sentenceRow), ...denied.map(deniedRow));
}

function sentenceRow(sentence) {
  const pinned = marks.get(sentence) === "SENTENCE_MARK_PINNED";
  return element("li", {}, element("span", { class: "said" }, sentence),
    element("button", { "aria-pressed": String(pinned), "aria-label": `Pin: ${sentence}`,
      onclick: pressed(() => mark(sentence, pinned ? "SENTENCE_MARK_NONE" : "SENTENCE_MARK_PINNED")) }, pinned ? "Pinned" : "Pin"),
    element("button", { "aria-label": `Not true: ${sentence}`,
      onclick: pressed(() => mark(sentence, "SENTENCE_MARK_NOT_TRUE")) }, "Not true"));
}

function deniedRow(sentence) {
  return element("li", { class: "not-true" }, element("span", { class: "said" }, sentence),
    element("button", { "aria-label": `Allow again: ${sentence}`,
      onclick: pressed(() => mark(sentence, "SENTENCE_MARK_NONE")) }, "Allow again"));
}

async function mark(sentence, value) {
  if (unsaved()) return say("Save or discard your edit first.", true);
  await call(SERVICE, "MarkProfileSentence", { userId: user, sentence, mark: value, etag: profile.etag });
  await reload(value === "SENTENCE_MARK_NOT_TRUE" ? "Taken out; it will not be written again." : "Remembered.");
}

async function reload(told) {
  await openProfile(user);
  say(told);
}

const restored = (revision) => reload(`Revision ${revision} is the profile again.`);

function showDirty() {
  const dirty = unsaved();
  $("save").disabled = !dirty || !$("text").value.trim();
  $("discard").disabled = !dirty;
  $("dirty").textContent = dirty ? "not saved" : "";
}

$("text").addEventListener("input", () => {
  showDirty();
  clearTimeout(typing);
  typing = setTimeout(preview, PAUSE);
});

async function preview() {
  asking?.abort();
  asking = new AbortController();
  try {
    if (!unsaved() || !$("text").value.trim()) await showRanking(user);
    else await showPreview(user, $("text").value, asking.signal);
  } catch (problem) {
    if (problem.name !== "AbortError") say(problem.message, true);
  }
}

async function save(etag) {
  const text = $("text").value;
  try {
    await call(SERVICE, "UpdateProfile", { userId: user, text, etag });
  } catch (problem) {
    if (problem.code === "aborted") return showConflict(text);
    throw problem;
  }
  await reload("Saved. The list follows your words.");
}

/** Somebody else saved first: both texts are shown, and nothing is lost until a choice is made. */
async function showConflict(mine) {
  const page = await stored();
  const theirs = page.profile?.text ?? "";
  $("conflict").replaceChildren(
    element("h2", {}, "The profile was changed elsewhere meanwhile"),
    element("blockquote", {}, theirs),
    element("p", { class: "actions" },
      element("button", { onclick: pressed(() => save(page.profile?.etag ?? "")) }, "Save mine over it"),
      element("button", { onclick: pressed(() => reload("Yours was discarded.")) }, "Take theirs")));
  $("text").value = mine;
  $("conflict").hidden = false;
  $("conflict").querySelector("button").focus();
}

$("save").addEventListener("click", pressed(() => save(profile?.etag ?? "")).bind(null));
$("discard").addEventListener("click", () => {
  $("text").value = profile?.text ?? "";
  showDirty();
  preview();
});
$("regenerate").addEventListener("click", pressed(async () => {
  if (unsaved()) return say("Save or discard your edit first.", true);
  say("Writing from your history ...");
  const { suggestion: beside } = await call(SERVICE, "RefreshProfile", { userId: user }, { timeout: WRITING });
  await reload(beside ? "Your words stay as they are; a suggestion lies beside them." : "Written anew.");
}));
$("accept").addEventListener("click", pressed(() => accept("")));
$("merge").addEventListener("click", pressed(() => accept(`${profile?.text ?? ""}\n${suggestion.text}`)));
$("dismiss").addEventListener("click", pressed(async () => {
  await call(SERVICE, "DismissProfileSuggestion", { userId: user });
  await reload("Dismissed.");
}));

async function accept(mergedText) {
  await call(SERVICE, "AcceptProfileSuggestion", { userId: user, etag: profile?.etag ?? "", mergedText });
  await reload("Saved. The list follows.");
}
