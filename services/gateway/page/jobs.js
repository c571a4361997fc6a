// Training jobs: the list, and the curves of the one that is watched, as its events come in.

import { call, stream } from "./api.js";
import { Chart, figure } from "./chart.js";
import { ask } from "./dialog.js";
import { $, button, element, say, when, word } from "./dom.js";
import { showReleases } from "./releases.js";

const SERVICE = "TrainerService";
const AGAIN = 2_000; // milliseconds before a lost stream is taken up again
const OPEN = ["queued", "running"];
const MORE = [
  // [metric, phase, title, what it is]
  ["kl", "rlso", "KL", "how far the writer has moved from where it began, nats"],
  ["response_tokens", "rlso", "Length", "mean tokens of a sampled profile"],
  ["loss", "cl", "Contrastive loss", "InfoNCE of each batch, nats"],
  ["accuracy", "cl", "Contrastive accuracy", "share of profiles whose own item scores highest in the batch"],
];

let listed = ""; // what the list on the screen was made from
let watched = null; // { jobId, leave: AbortController, steps: Map, validations: Map, guards: [], charts }

/** The list as it is now; the first time the newest job is watched. */
export async function showJobs() {
  const { jobs = [] } = await call(SERVICE, "ListTrainingJobs", { pageSize: 20 });
  fill(jobs);
  const shown = jobs.find((each) => each.jobId === watched?.jobId);
  if (shown) showState(shown);
  else if (!watched && jobs.length) watch(jobs.find((each) => OPEN.includes(state(each))) ?? jobs[0]);
}

/** Fill the list, if anything in it is new: who reads it is not disturbed otherwise. */
function fill(jobs) {
  const now = JSON.stringify([watched?.jobId, jobs.map((each) => [each.jobId, each.state, each.stepsDone])]);
  if (now === listed) return;
  listed = now;
  const held = document.activeElement?.dataset.job;
  const none = element("li", { class: "quiet" }, "None yet. Start one with ", element("code", {}, "langptune train start"), ".");
  $("jobs").replaceChildren(...(jobs.length ? jobs.map(row) : [none]));
  const again = held && $("jobs").querySelector(`[data-job="${CSS.escape(held)}"]`);
  if (again) again.focus();
}

export function stopWatching() {
  watched?.leave.abort();
  watched = null;
  $("job").hidden = true;
}

const state = (job) => word(job.state, "JOB_STATE_");

function row(job) {
  const is = job.jobId === watched?.jobId;
  return element(
    "li",
    {},
    element(
      "button",
      {
        class: "job",
        type: "button",
        "data-job": job.jobId,
        "aria-pressed": String(is),
        onclick: () => {
          watch(job);
          $("job-title").focus();
        },
      },
      element("strong", {}, job.jobId),
      badge(state(job)),
      element("span", { class: "quiet" }, `step ${job.stepsDone ?? 0} of ${job.stepsTotal ?? 0}`),
      when(job.createTime),
    ),
  );
}

function badge(said) {
  return element("span", { class: `badge ${said}` }, said);
}

function showState(job) {
  $("job-title").textContent = job.jobId;
  $("job-state").replaceChildren(
    badge(state(job)),
    ` step ${job.stepsDone ?? 0} of ${job.stepsTotal ?? 0}, preset ${job.spec?.preset || "sample"}, started `,
    when(job.startTime ?? job.createTime),
  );
  Object.assign($("job-progress"), { max: job.stepsTotal || 1, value: job.stepsDone ?? 0 });
  const [made, open] = [job.releaseId, OPEN.includes(state(job))];
  $("job-notes").replaceChildren(
    ...[
      job.error && note("bad", `It failed: ${job.error}`),
      job.lastInterruption && open && note("warn", `It was interrupted and goes on: ${job.lastInterruption}`),
      made && note("good", `It made release ${made}, which can be published below.`),
      ...watched.guards.map((each) => note("warn", each)),
    ].filter(Boolean),
  );
  const actions = [
    open && button("Cancel the job", () => cancel(job.jobId)),
    state(job) === "failed" && button("Resume", () => resume(job.jobId)),
  ];
  if ($("job-actions").dataset.of === `${job.jobId} ${state(job)}`) return; // as it is: the keyboard may be there
  $("job-actions").dataset.of = `${job.jobId} ${state(job)}`;
  $("job-actions").replaceChildren(...actions.filter(Boolean));
}

const note = (kind, text) => element("p", { class: `notice ${kind}` }, text);

function watch(job) {
  stopWatching();
  const reward = new Chart("Reward", "mean quality of the sampled profiles of each batch; the line is the mean of five");
  const ndcg = new Chart("Validation NDCG@20", "on held-out users, before and after");
  const more = new Map(MORE.map(([name, phase, title, says]) => [`${phase} ${name}`, new Chart(title, says)]));
  watched = {
    jobId: job.jobId,
    leave: new AbortController(),
    steps: new Map(),
    validations: new Map(),
    guards: [],
    reward,
    ndcg,
    more,
  };
  $("job").hidden = false;
  $("curves").replaceChildren(
    element("div", { class: "charts" }, reward.node, ndcg.node),
    element(
      "details",
      { ontoggle: () => draw() },
      element("summary", {}, "More curves"),
      element("div", { class: "charts" }, ...[...more.values()].map((chart) => chart.node)),
    ),
  );
  for (const each of $("jobs").querySelectorAll("[data-job]"))
    each.setAttribute("aria-pressed", String(each.dataset.job === job.jobId));
  showState(job);
  draw();
  follow(watched);
}

/** Take in the job's events to its end; a stream that breaks off is taken up where it was. */
async function follow(mine) {
  let afterSequence = "0";
  while (!mine.leave.signal.aborted) {
    try {
      for await (const { event } of stream(
        SERVICE,
        "WatchTrainingJob",
        { jobId: mine.jobId, afterSequence },
        { signal: mine.leave.signal },
      )) {
        afterSequence = event.sequence;
        take(mine, event);
      }
      await Promise.all([showJobs(), showReleases()]);
      return;
    } catch (problem) {
      if (mine.leave.signal.aborted) return;
      if (problem.code === "not_found" || problem.code === "permission_denied") return say(problem.message);
      $("job-state").textContent = `${problem.message} Trying again …`;
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
    }
  }
}

function take(mine, { stepDone, validationDone, guardFired }) {
  if (stepDone) {
    for (const step of mine.steps.keys()) if (step >= stepDone.step) mine.steps.delete(step); // done again from a checkpoint
    mine.steps.set(stepDone.step, stepDone);
    Object.assign($("job-progress"), { max: stepDone.stepsTotal, value: stepDone.step });
  }
  if (validationDone) mine.validations.set(validationDone.label, validationDone.metrics ?? {});
  if (guardFired) mine.guards.push(guardFired.message);
  mine.drawing ??= requestAnimationFrame(() => {
    mine.drawing = null;
    if (watched === mine) draw();
  });
}

function draw() {
  const { steps, validations, reward, ndcg, more } = watched;
  const last = [...steps.values()].at(-1)?.stepsTotal ?? 0;
  const points = (name, phase) =>
    [...steps.values()]
      .filter((each) => each.phase === phase && each.metrics?.[name] !== undefined)
      .map((each) => [each.step, each.metrics[name]]);
  reward.draw(points("reward_mean", "rlso"), { last });
  const [before, after] = ["before", "after"].map(
    (label) => validations.get(label)?.ndcg ?? (validations.has(label) ? 0 : undefined),
  );
  const measured = [before !== undefined && [0, before], after !== undefined && [last, after]].filter(Boolean);
  ndcg.draw(measured, {
    last,
    smooth: false,
    levels: before === undefined ? [] : [{ name: `before ${figure(before)}`, value: before }],
  });
  for (const [name, phase] of MORE) more.get(`${phase} ${name}`).draw(points(name, phase), { last });
}

async function cancel(jobId) {
  if (
    !(await ask({
      title: `Cancel ${jobId}?`,
      body: ["It stops after the step in hand, and makes no release. What it has learnt is lost."],
      yes: "Cancel the job",
    }))
  )
    return;
  await call(SERVICE, "CancelTrainingJob", { jobId });
  await showJobs();
  say(`${jobId} stops after the step in hand.`);
}

async function resume(jobId) {
  const { job } = await call(SERVICE, "ResumeTrainingJob", { jobId });
  await showJobs();
  watch(job);
  say(`${jobId} goes on from its checkpoint.`);
}
