// The page's frame: whose profile is open (the part of the address behind #), which of the two views is shown, and who is signed in.

import { $, complain, say } from "./dom.js";
import { ask } from "./dialog.js";
import { hideOperator, showOperator } from "./operator.js";
import { openProfile, openUser, unsaved } from "./profile.js";
import { showSession, signIn, signOut, tokenUser } from "./session.js";

const OPERATOR = "#/operator";

$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  go(encodeURIComponent($("user").value.trim()));
});
$("to-profile").addEventListener("click", (event) => {
  event.preventDefault();
  go(encodeURIComponent(openUser()));
});
$("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part behind # names a user
  $("main").focus();
});
$("sign-out").addEventListener("click", () => {
  signOut();
  location.reload();
});
window.addEventListener("beforeunload", (event) => {
  if (unsaved()) event.preventDefault();
});
window.addEventListener("hashchange", async () => {
  await follow();
  $("main").focus({ preventScroll: true });
});
document.addEventListener("unauthenticated", askForToken);
showSession();
follow();

function go(place) {
  if (location.hash.slice(1) === place) follow();
  else location.hash = place;
}

async function follow() {
  const operator = location.hash === OPERATOR;
  const user = operator ? "" : named() || tokenUser();
  if (user && user !== openUser() && unsaved() && !(await leaves())) return go(encodeURIComponent(openUser()));
  current("to-operator", operator);
  current("to-profile", !operator);
  $("operator-view").hidden = !operator;
  $("welcome").hidden = operator || Boolean(user);
  if (operator || !user) $("profile-view").hidden = true;
  document.title = `${operator ? "Operator" : user ? `Profile of ${user}` : "My profile"} – LangPTune`;
  say("");
  if (!operator) hideOperator();
  if (user) $("user").value = user;
  try {
    if (operator) await showOperator();
    else if (user) await openProfile(user);
  } catch (problem) {
    complain(problem);
  }
}

function named() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return location.hash.slice(1);
  }
}

/** The gateway asks for a token, or for another one: afterwards everything is asked again, and what was typed is still there. */
async function askForToken({ detail }) {
  if ($("sign-in").open) return;
  if (await signIn(detail)) await follow();
}

function leaves() {
  return ask({
    title: "Leave your edit?",
    body: [`What you changed in the profile of ${openUser()} is not saved.`],
    yes: "Leave it",
  });
}

function current(link, is) {
  if (is) $(link).setAttribute("aria-current", "page");
  else $(link).removeAttribute("aria-current");
}
