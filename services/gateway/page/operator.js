// The operator's view: what is live, the training jobs with the curves of the one that is watched, the releases.

import { call } from "./api.js";
import { $, complain } from "./dom.js";
import { showJobs, stopWatching } from "./jobs.js";
import { showPublish, showReleases } from "./releases.js";

const EVERY = 4_000; // milliseconds between two looks at the jobs

let looking = 0; // timer of the next look

/** Fill the view and keep it up to date. */
export async function showOperator() {
  clearTimeout(looking);
  looking = setTimeout(look, EVERY);
  await Promise.all([showJobs(), showReleases()]);
  showPublish().catch(complain);
}

export function hideOperator() {
  clearTimeout(looking);
  stopWatching();
}

async function look() {
  looking = setTimeout(look, EVERY);
  if (document.hidden) return;
  try {
    await showJobs();
  } catch (problem) {
    if ($("problem").textContent !== problem.message) complain(problem); // once, not every few seconds
  }
}
