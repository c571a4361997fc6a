// Who is signed in: a token that the gateway asked for. It is kept for this tab alone and sent with every call; no cookie.

import { $ } from "./dom.js";

const KEY = "langptune.token";

export function token() {
  return sessionStorage.getItem(KEY) ?? "";
}

/** The user that the token names (its `sub`), "" if it names none. For show only: the gateway is the one that checks. */
export function tokenUser() {
  try {
    const claims = token().split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(claims), (each) => each.charCodeAt(0)))).sub ?? "";
  } catch {
    return "";
  }
}

/** Ask for a token; resolves when there is one, or with false when the question is closed. `why` is shown. */
export function signIn(why) {
  sessionStorage.removeItem(KEY);
  $("sign-in-about").dataset.why ??= $("sign-in-about").textContent;
  $("sign-in-about").textContent = [why, $("sign-in-about").dataset.why].filter(Boolean).join(" ");
  $("token").value = "";
  $("sign-in").showModal();
  return new Promise((resolve) => {
    $("sign-in").addEventListener(
      "close",
      () => {
        const given = $("sign-in").returnValue === "given" ? $("token").value.trim() : "";
        if (given) sessionStorage.setItem(KEY, given);
        $("token").value = "";
        showSession();
        resolve(given !== "");
      },
      { once: true },
    );
  });
}

/** Forget the token. */
export function signOut() {
  sessionStorage.removeItem(KEY);
  showSession();
}

export function showSession() {
  $("sign-out").hidden = !token();
}
