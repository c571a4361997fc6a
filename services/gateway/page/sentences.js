// The profile as it is read: sections of sentences. A chosen sentence opens where it stands, to be changed, pinned or denied.

import { $, button, element, grow } from "./dom.js";
import { evidenceOf, supportFlag } from "./evidence.js";
import { appended, replaced, same, sections, sentences } from "./text.js";

export const [PINNED, NOT_TRUE, NONE] = ["SENTENCE_MARK_PINNED", "SENTENCE_MARK_NOT_TRUE", "SENTENCE_MARK_NONE"];

const keys = (texts) => new Set(texts.map(same));

export class Sentences {
  /** `write(text)` takes each change of the text as it is typed; `mark(sentence, mark)` what is said of a sentence. */
  constructor({ write, mark }) {
    this.write = write;
    this.mark = mark;
    this.panel = null; // the open sentence
    this.show("", "", new Map());
    $("add").addEventListener("click", () =>
      this.open({ text: "", start: this.text.length, end: this.text.length }, $("add-line")),
    );
  }

  /** Show `text`; `stored` is the text that is saved, `marks` what was said of which sentence. */
  show(text, stored, marks) {
    [this.text, this.stored, this.marks] = [text, stored, marks];
    this.saved = keys(sentences(stored).map((each) => each.text));
    this.pinned = keys([...marks].filter(([, mark]) => mark === PINNED).map(([sentence]) => sentence));
    this.panel?.remove();
    this.panel = null;
    $("add-line").hidden = $("sections").hidden;
    $("sections").replaceChildren(...sections(text).map((each) => this.section(each)));
  }

  /** Bring `sentence` to the keyboard; false if the text has it not. */
  reach(sentence) {
    const found = this.buttons().find((each) => same(each.textContent) === same(sentence));
    found?.focus();
    found?.scrollIntoView({ block: "center" });
    return Boolean(found);
  }

  section({ heading, sentences: inside }) {
    return element(
      "section",
      { class: "words" },
      heading && this.row(heading, "h2"),
      inside.length > 0 && element("ul", { class: "plain" }, ...inside.map((each) => this.row(each, "li"))),
    );
  }

  row(sentence, tag) {
    const said = element(
      "button",
      { class: "said", type: "button", "aria-expanded": "false", onclick: () => this.open(sentence, row) },
      sentence.text,
    );
    const row = element(tag, { class: "sentence" }, said, element("span", { class: "flags" }));
    this.flag(row);
    return row;
  }

  /** Say beside a sentence what is to be said of it. */
  flag(row) {
    const sentence = row.querySelector(".said").textContent;
    const [pinned, changed] = [this.pinned.has(same(sentence)), !this.saved.has(same(sentence))];
    const rests = changed ? null : supportFlag(sentence);
    row.toggleAttribute("data-changed", changed);
    row.toggleAttribute("data-pinned", pinned);
    row
      .querySelector(".flags")
      .replaceChildren(
        ...[
          pinned && element("span", { class: "flag" }, "pinned"),
          changed && element("span", { class: "flag" }, "not saved"),
          rests && element("span", { class: `flag ${rests.kind}` }, rests.text),
        ].filter(Boolean),
      );
  }

  /** The same sentences with what is known of them by now; the keyboard stays where it is. */
  flagAgain() {
    for (const row of $("sections").querySelectorAll(".sentence")) this.flag(row);
    this.panel?.querySelector(".rests")?.replaceWith(this.rests(this.opened));
  }

  /** Change `sentence` where it stands, in place of `row`. */
  open(sentence, row) {
    if (this.panel) this.close();
    const before = this.text;
    this.opened = sentence;
    const put = (value) => {
      this.text = sentence.text ? replaced(before, sentence, value) : appended(before, value);
      this.write(this.text);
    };
    const field = this.field(sentence, put);
    this.panel = element(
      row.tagName === "LI" ? "li" : "div",
      { class: "editing" },
      field,
      this.actions(sentence, put),
      this.rests(sentence),
    );
    row.hidden = true;
    row.after(this.panel);
    grow(field);
    field.focus();
  }

  field(sentence, put) {
    const field = element("textarea", {
      rows: "1",
      "aria-label": "Change this sentence",
      "aria-keyshortcuts": "Enter Escape",
      spellcheck: "true",
    });
    field.value = sentence.text;
    field.addEventListener("input", () => {
      grow(field);
      put(field.value.replaceAll("\n", " ").trim());
    });
    field.addEventListener("keydown", (event) => {
      if (!["Enter", "Escape"].includes(event.key) || event.isComposing || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      if (event.key === "Escape") put(sentence.text);
      this.close(sentence.start);
    });
    return field;
  }

  actions(sentence, put) {
    const stored = sentence.text && this.saved.has(same(sentence.text));
    const pinned = this.pinned.has(same(sentence.text));
    return element(
      "p",
      { class: "actions" },
      button("Done", () => this.close(sentence.start)),
      stored &&
        button("Pin", () => this.mark(sentence.text, pinned ? NONE : PINNED), {
          "aria-pressed": String(pinned),
          title: "A pinned sentence stays when the profile is written again",
        }),
      stored &&
        button("Not true", () => this.mark(sentence.text, NOT_TRUE), { title: "Takes it out, and it will not be written again" }),
      sentence.text &&
        button("Remove", () => {
          put("");
          this.close(sentence.start);
        }),
    );
  }

  rests(sentence) {
    return element("div", { class: "rests" }, this.saved.has(same(sentence.text)) && evidenceOf(sentence.text));
  }

  /** Close the open sentence; with a `position` of the text, the keyboard goes to the sentence there, or to the last. */
  close(position = null) {
    this.show(this.text, this.stored, this.marks);
    if (position === null) return;
    const at = sentences(this.text).findIndex((each) => each.end > position);
    (this.buttons().at(at) ?? $("add")).focus();
  }

  buttons() {
    return [...$("sections").querySelectorAll(".said")];
  }
}
