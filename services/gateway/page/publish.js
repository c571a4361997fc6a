// Publish and roll back: the gate's word and a question before, the steps of the protocol while it runs, the end of it said.

import { call } from "./api.js";
import { figure } from "./chart.js";
import { ask } from "./dialog.js";
import { $, complain, element, say, word } from "./dom.js";

const SERVICE = "ReleaseService";
const PUBLISHING = 3_600_000; // milliseconds that a publish may take: it loads models
const EVERY = 400; // milliseconds between two looks at one that runs
const STEPS = [
  // of the protocol, in order
  ["load", "Load both versions on every replica"],
  ["verify", "Every replica proves what it has loaded"],
  ["flip", "Move the pointer"],
  ["drain", "Let running requests end"],
  ["retire", "Unload what is no longer needed"],
];
const VERDICTS = {
  open: "The gate is open: it is not worse, and its profiles stay readable.",
  closed: "The gate is closed.",
  unknown: "The gate cannot tell: it cannot be compared with what is live.",
  exempt: "It has been live before: the gate does not ask.",
};

let following = false; // whether a publish is looked at

/** Show what the gate says of `release`, and publish it if the answer is yes; `changed()` is called whenever something has moved. */
export async function propose(release, live, changed) {
  const { gate } = await call(SERVICE, "CheckGate", { releaseId: release.releaseId });
  const verdict = word(gate.verdict, "GATE_VERDICT_");
  const needed = verdict === "closed" || verdict === "unknown";
  const reason = field("Reason, for the record", false);
  const override = field("Publish it all the same, because", true);
  const yes = await ask({
    title: `Publish ${release.releaseId}?`,
    yes: `Publish ${release.releaseId}`,
    body: [
      element("p", {}, `It takes the place of ${live?.releaseId ?? "nothing"} for everyone, at once. You can roll back.`),
      ...said(gate, verdict),
      reason.label,
      ...(needed ? [override.label] : []),
    ],
  });
  if (!yes) return;
  await change(
    "PublishRelease",
    {
      releaseId: release.releaseId,
      expectedLiveReleaseId: live?.releaseId,
      reason: reason.value(),
      actor: "page",
      overrideReason: needed ? override.value() : "",
    },
    changed,
  );
}

/** Go back to the release `previous`, after a question. */
export async function rollBack(previous, changed) {
  const reason = field("Reason, for the record", false);
  const body = [element("p", {}, `${previous} answers everyone again, at once. Rolling back twice comes back.`), reason.label];
  if (!(await ask({ title: `Roll back to ${previous}?`, body, yes: "Roll back" }))) return;
  await change("RollbackRelease", { reason: reason.value(), actor: "page" }, changed);
}

/** Show the publish that runs, whoever began it, to its end; `changed()` is called then. */
export async function followPublish(changed) {
  if (isRunning(await newest())) await follow(changed, null, Promise.resolve());
}

/** Show the publish after that of the id `before`, until it and the call `working` have ended. */
async function follow(changed, before, working) {
  if (following) return;
  following = true;
  let settled = false;
  working.then(
    () => (settled = true),
    () => (settled = true),
  );
  try {
    for (;;) {
      const publish = await newest();
      if (publish && publish.publishId !== before) show(publish, word(publish.step, "PUBLISH_STEP_"));
      if (settled && !isRunning(publish)) break;
      await new Promise((resolve) => setTimeout(resolve, EVERY));
    }
  } finally {
    following = false;
  }
  await changed();
}

function isRunning(publish) {
  return Boolean(publish) && !["done", "failed"].includes(word(publish.step, "PUBLISH_STEP_"));
}

async function newest() {
  try {
    return (await call(SERVICE, "GetPublish")).publish;
  } catch (problem) {
    if (problem.code === "not_found") return null;
    throw problem;
  }
}

async function change(method, request, changed) {
  say("Loading both versions …");
  const before = (await newest())?.publishId ?? null;
  const working = call(SERVICE, method, request, { timeout: PUBLISHING });
  follow(changed, before, working).catch(complain);
  try {
    const { release } = await working;
    say(`${release.releaseId} is live.`);
  } finally {
    await changed();
    $("live-title").focus({ preventScroll: true });
  }
}

function show(publish, step) {
  $("publish").hidden = false;
  $("publish-title").textContent =
    `${step === "done" ? "Published" : step === "failed" ? "Not published:" : "Publishing"} ${publish.releaseId}`;
  const at = step === "done" ? STEPS.length : STEPS.findIndex(([name]) => name === step);
  $("publish-steps").replaceChildren(
    ...STEPS.map(([, says], place) => {
      const state = at < 0 ? "open" : place < at ? "done" : place === at ? "now" : "open";
      return element(
        "li",
        { class: state, "aria-current": state === "now" ? "step" : null },
        says,
        state !== "open" && element("span", { class: "unseen" }, state === "done" ? ", done" : ", under way"),
      );
    }),
  );
  $("publish-note").textContent =
    publish.error ||
    (at > 2 ? `${publish.releaseId} is live.` : `${publish.previousReleaseId || "Nothing"} stays live until the pointer moves.`);
}

function said(gate, verdict) {
  const compared =
    gate.users > 0 &&
    `NDCG ${figure(gate.liveNdcg ?? 0)} → ${figure(gate.candidateNdcg ?? 0)} on ${gate.users} users (p that it is worse: ${figure(gate.pWorse ?? 0)}).`;
  return [
    element("p", { class: `notice ${verdict === "open" || verdict === "exempt" ? "good" : "warn"}` }, VERDICTS[verdict] ?? ""),
    compared && element("p", {}, compared),
    gate.reasons?.length > 0 && element("ul", {}, ...gate.reasons.map((each) => element("li", {}, each))),
  ].filter(Boolean);
}

function field(says, required) {
  const input = element("input", { maxlength: "1000", required });
  return { label: element("label", {}, says, input), value: () => input.value.trim() };
}
