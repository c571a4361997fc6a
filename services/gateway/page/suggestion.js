// What the encoder would write now, beside one's own words: taken whole, sentence by sentence, or not at all.

import { $, button, element, when } from "./dom.js";
import { appended, only, sentences } from "./text.js";

/** Show `suggestion` (null: none) beside `mine`. `take(text)` lays a text on the screen, unsaved; `dismiss()` forgets it. */
export function showSuggestion(suggestion, mine, { take, dismiss }) {
  $("suggestion").hidden = !suggestion;
  if (!suggestion) return $("suggestion").replaceChildren();
  const fresh = new Set(only(suggestion.text, mine));
  const choices = sentences(suggestion.text).map(({ text }) => ({
    text,
    box: element("input", { type: "checkbox", checked: fresh.has(text), disabled: !fresh.has(text) }),
  }));
  const chosen = () => choices.filter(({ text, box }) => fresh.has(text) && box.checked).map(({ text }) => text);
  $("suggestion").replaceChildren(
    element("h2", { id: "suggestion-title" }, "A suggestion beside yours"),
    element(
      "p",
      { class: "quiet" },
      `Written from ${suggestion.interactions} of your ratings `,
      when(suggestion.createTime),
      ". Yours stays until you decide.",
    ),
    element(
      "ul",
      { class: "plain choices" },
      ...choices.map(({ text, box }) =>
        element(
          "li",
          {},
          element(
            "label",
            {},
            box,
            element("span", { class: "prose" }, text),
            !fresh.has(text) && element("span", { class: "flag" }, "in yours"),
          ),
        ),
      ),
    ),
    element(
      "p",
      { class: "actions" },
      fresh.size > 0 &&
        button(
          "Add the chosen to mine",
          () => {
            if (!chosen().length) throw new Error("Choose a sentence first.");
            return take(chosen().reduce(appended, mine));
          },
          { class: "primary" },
        ),
      button("Use it in place of mine", () => take(suggestion.text)),
      button("Dismiss", dismiss),
    ),
  );
}
