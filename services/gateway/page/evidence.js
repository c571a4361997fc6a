// What each sentence of the saved profile rests on: the user's own ratings that support it, or that nothing does.

import { call } from "./api.js";
import { element } from "./dom.js";
import { same } from "./text.js";

const LONGEST = 120; // characters of a review
const SHOWN = 3; // of the interactions that support a sentence

let found = null; // { written: whether the text was written from them, of: Map(sentence -> evidence) }
let missing = false; // whether it could not be had
let newest = 0; // an answer to an older question is dropped

/** Ask for the evidence of `user`'s profile; `arrived()` is called when it is there. */
export async function fetchEvidence(user, arrived) {
  const mine = ++newest;
  [found, missing] = [null, false];
  try {
    const answer = await call("ProfileService", "ExplainProfile", { userId: user });
    if (mine !== newest) return;
    const of = new Map((answer.sentences ?? []).map((each) => [same(each.sentence), each.support ?? []]));
    found = { written: answer.basis === "EVIDENCE_BASIS_WRITTEN_FROM", of };
  } catch {
    if (mine === newest) missing = true; // the profile can be read and edited without it; where it would stand, that is said
  }
  if (mine === newest) arrived();
}

/** What is said beside a sentence in the list: only of what was written from ratings, null otherwise. */
export function supportFlag(sentence) {
  const support = found?.written ? found.of.get(same(sentence)) : null;
  if (!support) return null;
  if (!support.length) return { text: "nothing supports this", kind: "warn" };
  return { text: `from ${support.length} ${support.length === 1 ? "rating" : "ratings"}`, kind: "" };
}

/** What is said of an open sentence: a node. */
export function evidenceOf(sentence) {
  const support = found?.of.get(same(sentence));
  if (!support) {
    const why = missing ? "What it rests on cannot be told now." : found ? "" : "What it rests on is being looked up …";
    return element("p", { class: "quiet" }, why);
  }
  if (!support.length) return element("p", { class: "quiet" }, "Nothing in your ratings supports this sentence.");
  return element(
    "div",
    { class: "evidence" },
    element("p", { class: "quiet" }, "As it is saved, it rests on"),
    element("ul", { class: "plain" }, ...support.slice(0, SHOWN).map(row)),
  );
}

function row({ interaction, score = 0 }) {
  const { item, rating = 0, review = "" } = interaction;
  const said = review.length > LONGEST ? `${review.slice(0, LONGEST).trimEnd()}…` : review;
  return element(
    "li",
    { title: `${score.toFixed(1)} standard deviations nearer than the catalogue on average` },
    element("strong", {}, item.title ?? item.itemId),
    ` ${rating.toFixed(1)} of 5`,
    said && element("q", {}, said),
  );
}
