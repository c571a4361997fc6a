// Small helpers over the DOM. Text is only ever set as text: what a profile or a title says is never markup.

export const $ = (id) => document.getElementById(id);

/** A new element: element("li", { class: "x", onclick }, "text", child, ...). Null children are left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** Say what happened, to everyone: in the status line, which screen readers read out. */
export function say(text, problem = false) {
  $("status").textContent = text;
  $("status").classList.toggle("problem", problem);
}

/** Run `work` for a button: no second press meanwhile, and a failure is said. */
export function pressed(work) {
  return async (event) => {
    const button = event.currentTarget;
    button.disabled = true;
    try {
      await work(event);
    } catch (problem) {
      say(problem.message, true);
    } finally {
      button.disabled = false;
    }
  };
}

export function when(timestamp) {
  return timestamp ? new Date(timestamp).toLocaleString() : "";
}

/** "RANKING_BASIS_PROFILE" -> "profile" */
export function word(value, prefix) {
  return (value ?? "").replace(prefix, "").toLowerCase().replaceAll("_", " ");
}
