// The operator's view: releases with publish and roll back, training jobs with the reward curve of the one that is watched.

import { call, stream } from "./api.js";
import { $, element, pressed, say, when, word } from "./dom.js";

const PUBLISHING = 3_600_000; // milliseconds
const [WIDTH, HEIGHT, MARGIN] = [640, 240, 40];
let watching = null; // AbortController

export async function showOperator() {
  try {
    await Promise.all([showReleases(), showJobs()]);
    say("");
  } catch (problem) {
    say(problem.message, true);
  }
}

export function hideOperator() {
  watching?.abort();
  watching = null;
}

async function showReleases() {
  const { releases = [] } = await call("ReleaseService", "ListReleases", { pageSize: 50 });
  const head = ["release", "made", "validation NDCG", "job", ""].map((name) => element("th", { scope: "col" }, name));
  const rows = releases.map((each) => element("tr", {},
    element("th", { scope: "row" }, each.releaseId),
    element("td", {}, when(each.createTime)),
    element("td", {}, each.validation?.ndcg === undefined ? "–" : each.validation.ndcg.toFixed(4)),
    element("td", {}, each.jobId ?? ""),
    element("td", {}, each.live ? "live" : element("button", { "aria-label": `Publish ${each.releaseId}`,
      onclick: pressed(() => change("PublishRelease", { releaseId: each.releaseId, reason: "published on the page" })) }, "Publish"))));
  $("releases").replaceChildren(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
}

async function change(method, request) {
  say("Loading both versions ...");
  const { release } = await call("ReleaseService", method, request, { timeout: PUBLISHING });
  await showReleases();
  say(`${release.releaseId} is live.`);
}

$("rollback").addEventListener("click", pressed(() => change("RollbackRelease", { reason: "rolled back on the page" })));

async function showJobs() {
  const { jobs = [] } = await call("TrainerService", "ListTrainingJobs", { pageSize: 20 });
  $("jobs").replaceChildren(...jobs.map((job) => element("li", {},
    element("span", { class: "said" }, `${job.jobId}: ${word(job.state, "JOB_STATE_")}, step ${job.stepsDone ?? 0} of ${job.stepsTotal ?? 0}`),
    element("button", { "aria-label": `Show ${job.jobId}`, onclick: () => watch(job.jobId) }, "Show"))));
  if (!jobs.length) $("jobs").replaceChildren(element("li", {}, "None yet: langptune train start"));
}

async function watch(jobId) {
  watching?.abort();
  const mine = (watching = new AbortController());
  const points = [];
  $("curve").hidden = false;
  $("curve-title").textContent = `${jobId}: mean reward of each RLSO batch`;
  try {
    for await (const { event } of stream("TrainerService", "WatchTrainingJob", { jobId }, { signal: mine.signal })) {
      const reward = event.stepDone?.metrics?.reward_mean;
      if (reward !== undefined) points.push([event.stepDone.step, reward]);
      draw(points);
    }
    await showJobs();
  } catch (problem) {
    if (!mine.signal.aborted) say(problem.message, true);
  }
}

function draw(points) {
  if (!points.length) return $("curve-picture").replaceChildren(element("p", { class: "quiet" }, "No RLSO batch yet."));
  const steps = points.map(([step]) => step);
  const top = Math.max(...points.map(([, reward]) => reward));
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const x = (step) => MARGIN + ((WIDTH - 2 * MARGIN) * (step - first)) / Math.max(1, last - first);
  const y = (reward) => HEIGHT - MARGIN - ((HEIGHT - 2 * MARGIN) * reward) / (top || 1);
  const smooth = points.map(([step], at) => {
    const near = points.slice(Math.max(0, at - 4), at + 1);
    return [step, near.reduce((sum, [, reward]) => sum + reward, 0) / near.length];
  });
  const picture = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    "aria-label": `Reward from ${points[0][1].toFixed(4)} at step ${first} to ${points.at(-1)[1].toFixed(4)} at step ${last}` },
    shape("line", { class: "axis", x1: MARGIN, x2: WIDTH - MARGIN, y1: y(0), y2: y(0) }),
    shape("line", { class: "axis", x1: MARGIN, x2: MARGIN, y1: MARGIN, y2: y(0) }),
    ...points.map(([step, reward]) => shape("circle", { class: "dot", cx: x(step), cy: y(reward), r: 3 })),
    shape("polyline", { class: "line", points: smooth.map(([step, reward]) => `${x(step)},${y(reward)}`).join(" ") }),
    label(MARGIN, MARGIN - 8, top.toFixed(3)), label(MARGIN, HEIGHT - MARGIN + 18, `step ${first}`),
    label(WIDTH - MARGIN - 50, HEIGHT - MARGIN + 18, `step ${last}`));
  $("curve-picture").replaceChildren(picture);
}

function shape(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function label(x, y, text) {
  return shape("text", { x, y }, text);
}
