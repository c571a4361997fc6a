// Sentences: where they begin and end, when two say the same, and how two edits of one text are put together.
// `sentences` and `same` are the gateway's own rules (langptune/text.py, services/gateway/profiles/marks.py); a test holds
// them together.

const SENTENCE = /\S.*?(?:[.!?…]+["'”’)\]]*(?=\s+[^a-z\s]|\s*$)|$)/gmu;
const HEADING = /^(?:#{1,6}\s+\S.*|.{1,60}:)$/u;

/** The sentences of a text in reading order: [{ text, start, end }]. */
export function sentences(text) {
  return [...text.matchAll(SENTENCE)].map((found) => ({
    text: found[0],
    start: found.index,
    end: found.index + found[0].length,
  }));
}

/** The text by its lines: [{ heading, sentences }]. A line such as "Likes:" or "# Likes" is the heading of what follows. */
export function sections(text) {
  const made = [];
  let line = -1; // where the line of the sentence before begins
  for (const sentence of sentences(text)) {
    const start = text.lastIndexOf("\n", sentence.start) + 1;
    const whole = text.slice(start, sentence.start).trim() === "" && HEADING.test(sentence.text);
    if (whole) made.push({ heading: sentence, sentences: [] });
    else if (made.length && (start === line || !made.at(-1).sentences.length)) made.at(-1).sentences.push(sentence);
    else made.push({ heading: null, sentences: [sentence] });
    line = start;
  }
  return made;
}

/** What two sentences share that say the same: their words, whatever the case and punctuation. */
export function same(sentence) {
  return (sentence.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? []).join(" ") || sentence.trim();
}

/** The texts of the sentences of `text` that `other` has not. */
export function only(text, other) {
  return sentences(text)
    .map((each) => each.text)
    .filter((each) => !find(other, each));
}

/** `text` with `value` in place of what stands from `start` to `end`; white space around an empty one is tidied. */
export function replaced(text, { start, end }, value) {
  const [before, after] = [text.slice(0, start), text.slice(end)];
  if (value.trim()) return before + value + after;
  const [head, tail] = [before.replace(/[ \t]+$/, ""), after.replace(/^[ \t]+/, "")];
  return head + (head && tail && !head.endsWith("\n") && !tail.startsWith("\n") ? " " : "") + tail;
}

/** `text` and one more sentence behind it. */
export function appended(text, sentence) {
  const kept = text.trimEnd();
  return kept && sentence ? `${kept} ${sentence}` : kept || sentence;
}

/** `theirs` with what `mine` changed of `base`: what I took out is gone, what I put in follows what it followed in mine. */
export function merge(base, mine, theirs) {
  const added = new Set(only(mine, base));
  let merged = only(base, mine).reduce((text, gone) => (find(text, gone) ? replaced(text, find(text, gone), "") : text), theirs);
  let before = null;
  for (const { text } of sentences(mine)) {
    if (added.has(text) && !find(merged, text)) {
      const at = before === null ? 0 : before.end;
      merged = at ? `${merged.slice(0, at)} ${text}${merged.slice(at)}` : `${text} ${merged}`.trimEnd();
    }
    before = find(merged, text) ?? before;
  }
  return merged.trim();
}

function find(text, sentence) {
  return sentences(text).find((each) => same(each.text) === same(sentence)) ?? null;
}
