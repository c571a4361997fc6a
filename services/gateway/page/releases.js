// Releases: what is live, what could be, and what was live when.

import { call } from "./api.js";
import { figure } from "./chart.js";
import { $, button, element, say, when } from "./dom.js";
import { followPublish, propose, rollBack } from "./publish.js";

const SERVICE = "ReleaseService";
const VERIFYING = 300_000; // milliseconds: every replica reads its files again
const COLUMNS = ["Release", "NDCG@20", "Recall", "MRR", "Made by", "Made", "State"];

let live = null; // the live release

/** The live release, the table and the moves of the pointer, as they are now. */
export async function showReleases() {
  const [{ releases = [] }, { moves = [] }] = await Promise.all([
    call(SERVICE, "ListReleases", { pageSize: 50 }),
    call(SERVICE, "ListReleaseMoves", { pageSize: 10 }),
  ]);
  live = releases.find((each) => each.live) ?? null;
  showLive(moves[0]);
  $("releases").replaceChildren(
    element("thead", {}, element("tr", {}, ...COLUMNS.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...releases.map(row)),
  );
  $("moves").replaceChildren(...moves.map(moved));
}

/** A publish that runs already, whoever began it. */
export const showPublish = () => followPublish(showReleases);

function showLive(move) {
  if (!live)
    return $("live-body").replaceChildren(element("p", {}, "None yet. The trainer publishes the first one when it starts."));
  const previous = move?.previousReleaseId;
  const fact = (name, value) => element("div", {}, element("dt", {}, name), element("dd", {}, value));
  $("live-body").replaceChildren(
    element("p", { class: "big" }, live.releaseId),
    element(
      "dl",
      { class: "facts" },
      fact("Validation NDCG@20", metric(live, "ndcg")),
      fact("Live", move ? when(move.time) : "–"),
      fact("Made by", live.jobId || "the base models"),
      fact("Encoder", element("code", {}, live.encoderVersion)),
      fact("Decoder", element("code", {}, live.decoderVersion)),
    ),
    element(
      "p",
      { class: "actions" },
      previous && button(`Roll back to ${previous}`, () => rollBack(previous, showReleases), { id: "rollback" }),
      button("Check every replica", verify, { id: "verify" }),
    ),
    element("ul", { id: "replicas", class: "plain" }),
  );
}

function row(release) {
  const publish = button("Publish", () => propose(release, live, showReleases), {
    "aria-label": `Publish ${release.releaseId}`,
    class: "small",
  });
  const state = release.live
    ? element("span", { class: "badge live" }, "live")
    : release.retired
      ? element("span", { class: "quiet" }, "retired")
      : publish;
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, release.releaseId),
    ...["ndcg", "recall", "mrr"].map((name) => element("td", {}, metric(release, name))),
    element("td", {}, release.jobId || "base models"),
    element("td", {}, when(release.createTime)),
    element("td", {}, state),
  );
}

const metric = (release, name) => (release.validation?.users ? figure(release.validation[name] ?? 0) : "–");

function moved(move) {
  const [after, by, why] = [
    move.previousReleaseId && ` after ${move.previousReleaseId}`,
    move.actor && `, by ${move.actor}`,
    move.reason && `: ${move.reason}`,
  ];
  return element(
    "li",
    {},
    element("strong", {}, move.releaseId),
    " ",
    when(move.time),
    ...[after, by, why].filter(Boolean),
    move.overrideReason && element("em", {}, ` The gate was overridden: ${move.overrideReason}`),
  );
}

async function verify() {
  say("Every replica reads its files again …");
  const { verified, replicas = [] } = await call(SERVICE, "VerifyRelease", {}, { timeout: VERIFYING });
  $("replicas").replaceChildren(
    ...replicas.map((each) =>
      element(
        "li",
        {},
        element(
          "span",
          { class: `badge ${each.problems?.length ? "failed" : "live"}` },
          each.problems?.length ? "wrong" : "sound",
        ),
        ` ${each.kind} ${each.address} ${(each.problems ?? []).join(" ")}`,
      ),
    ),
  );
  say(verified ? "Every replica holds what was published." : "A replica does not hold what was published.");
}
