// What the user never wants to see: phrases as chips, heeded by every ranking from the next one on.

import { call } from "./api.js";
import { $, complain, button, element, say } from "./dom.js";

const SERVICE = "ProfileService";

let user = "";
let changed = () => {};

/** Show `phrases` of `name`; `told()` is called after each change, to rank again. */
export function showAvoid(name, phrases, told) {
  [user, changed] = [name, told];
  fill(phrases);
}

/** The phrases of `name`, who has no profile that they would come with. */
export async function avoided(name) {
  return (await call(SERVICE, "ListAvoidPhrases", { userId: name })).phrases ?? [];
}

function fill(phrases) {
  $("avoid-list").replaceChildren(
    ...phrases.map((phrase) =>
      element(
        "li",
        { class: "chip" },
        element("span", {}, phrase),
        button("×", () => change("RemoveAvoidPhrase", phrase, `${phrase} may be shown again.`), {
          "aria-label": `Allow again: ${phrase}`,
        }),
      ),
    ),
  );
}

async function change(method, phrase, told) {
  const { phrases = [] } = await call(SERVICE, method, { userId: user, phrase });
  fill(phrases);
  $("avoid-phrase").focus();
  await changed();
  say(told);
}

$("avoid-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const phrase = $("avoid-phrase").value.trim();
  if (!phrase) return;
  try {
    await change("AddAvoidPhrase", phrase, `${phrase} will not be shown.`);
    $("avoid-phrase").value = "";
  } catch (problem) {
    complain(problem);
  }
});
