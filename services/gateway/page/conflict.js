// Two tabs, or two people, edited at once: both texts side by side, and three ways on. Nothing is saved here.

import { $, button, element } from "./dom.js";
import { merge, only, sentences } from "./text.js";

/** Show `mine` and `theirs`, both made from `base`; `choose(text)` is called with what is to be on the screen. */
export function showConflict({ base, mine, theirs }, choose) {
  const merged = merge(base, mine, theirs);
  $("conflict").replaceChildren(
    element("h2", { id: "conflict-title" }, "The profile was changed elsewhere meanwhile"),
    element("p", {}, "Nothing is lost: here are both. Choose what to go on with; it is saved when you press Save."),
    element(
      "div",
      { class: "both" },
      side("Yours, not saved", mine, theirs),
      side("Saved elsewhere", theirs, mine),
      merged !== mine && merged !== theirs && side("Put together", merged, base),
    ),
    element(
      "p",
      { class: "actions" },
      merged !== mine && merged !== theirs && button("Put both together", () => choose(merged), { class: "primary" }),
      button("Go on with mine", () => choose(mine)),
      button("Take theirs", () => choose(theirs)),
    ),
  );
  $("conflict").hidden = false;
  $("conflict").focus();
}

/** A text, with what `other` has not marked. */
function side(title, text, other) {
  const own = new Set(only(text, other));
  const parts = sentences(text).flatMap((each) => [own.has(each.text) ? element("ins", {}, each.text) : each.text, " "]);
  return element("div", {}, element("h3", {}, title), element("p", { class: "prose" }, ...parts));
}
