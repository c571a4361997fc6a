// A question before something that reaches other people, or loses words: asked in a dialog that the keyboard cannot leave.

import { $ } from "./dom.js";

/** Whether the answer is `yes`; `body` are nodes or texts, among them fields that the caller reads afterwards. */
export function ask({ title, body, yes }) {
  const dialog = $("confirm");
  $("confirm-title").textContent = title;
  $("confirm-body").replaceChildren(...body);
  $("confirm-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
