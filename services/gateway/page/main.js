// The page's frame: whose profile is open (the part of the address behind #), and which of the two views is shown.

import { $, say } from "./dom.js";
import { showOperator, hideOperator } from "./operator.js";
import { openProfile, unsaved } from "./profile.js";

const OPERATOR = "#/operator";

$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = encodeURIComponent($("user").value.trim());
});
$("to-operator").addEventListener("click", (event) => {
  event.preventDefault();
  location.hash = OPERATOR;
});
$("to-profile").addEventListener("click", (event) => {
  event.preventDefault();
  location.hash = encodeURIComponent($("user").value.trim());
});
window.addEventListener("beforeunload", (event) => {
  if (unsaved()) event.preventDefault();
});
window.addEventListener("hashchange", follow);
follow();

async function follow() {
  const operator = location.hash === OPERATOR;
  $("profile-view").hidden = operator;
  $("operator-view").hidden = !operator;
  $("to-operator").toggleAttribute("aria-current", operator);
  $("to-profile").toggleAttribute("aria-current", !operator);
  if (operator) return showOperator();
  hideOperator();
  const user = decodeURIComponent(location.hash.slice(1));
  if (!user) return;
  $("user").value = user;
  try {
    await openProfile(user);
  } catch (problem) {
    say(problem.message, true);
  }
}
