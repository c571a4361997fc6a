// Small helpers over the DOM. Text is only ever set as text: what a profile or a title says is never markup.

const READING = 8_000; // milliseconds that good news stays on the screen

let leaving = 0; // timer of the news on the screen

export const $ = (id) => document.getElementById(id);

/** A new element: element("li", { class: "x", onclick }, "text", child, ...). Children that are null or false are left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null && child !== false));
  return made;
}

export function button(label, onclick, attributes = {}) {
  return element("button", { type: "button", onclick: pressed(onclick), ...attributes }, label);
}

/** Say what happened, to everyone: on the screen for a while, and to screen readers. */
export function say(text) {
  clearTimeout(leaving);
  $("problem").textContent = "";
  $("status").textContent = text;
  if (text) leaving = setTimeout(() => ($("status").textContent = ""), READING);
}

/** Say what went wrong; it stays until something else is said. */
export function complain(problem) {
  say("");
  $("problem").textContent = problem.message;
}

/** Run `work` for a button: no second press meanwhile, and a failure is said. */
export function pressed(work) {
  return async (event) => {
    const target = event.currentTarget;
    if (target.getAttribute("aria-disabled") === "true") return;
    target.setAttribute("aria-disabled", "true"); // not `disabled`, which would drop the keyboard's focus
    try {
      await work(event);
    } catch (problem) {
      complain(problem);
    } finally {
      target.removeAttribute("aria-disabled");
    }
  };
}

/** Make a text field as high as what is in it. */
export function grow(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + 2}px`;
}

/** "just now", "5 minutes ago", "yesterday", then the date; the exact moment is the element's title. */
export function when(timestamp) {
  if (!timestamp) return element("span", {}, "at an unknown time");
  const moment = new Date(timestamp);
  return element("time", { datetime: timestamp, title: moment.toLocaleString() }, ago(moment));
}

function ago(moment) {
  const seconds = (Date.now() - moment) / 1_000;
  const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  if (seconds < 45) return "just now";
  if (seconds < 3_600) return relative.format(-Math.max(1, Math.round(seconds / 60)), "minute");
  if (seconds < 86_400) return relative.format(-Math.round(seconds / 3_600), "hour");
  if (seconds < 7 * 86_400) return relative.format(-Math.round(seconds / 86_400), "day");
  return moment.toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
}

/** "RANKING_BASIS_PROFILE" -> "profile" */
export function word(value, prefix) {
  return (value ?? "").replace(prefix, "").toLowerCase().replaceAll("_", " ");
}
