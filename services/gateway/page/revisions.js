// Earlier texts of the profile: what changed since, and the way back.

import { call } from "./api.js";
import { $, button, element, when, word } from "./dom.js";

const SERVICE = "ProfileService";
const TAGS = { DIFF_KIND_KEPT: "span", DIFF_KIND_REMOVED: "del", DIFF_KIND_ADDED: "ins" };
const ORIGINS = { generated: "written from history", edited: "own words", restored: "restored", suggested: "from a suggestion" };
const PAGE = 5;

/** The revisions of `user` before `current`; `restored(revision)` is called after a restore, `conflicted()` when somebody was first. */
export async function showRevisions(user, current, told) {
  $("revisions").hidden = !current || current.revision === "1";
  $("revision-list").replaceChildren();
  if (!$("revisions").hidden) await more(user, current, told, "");
}

async function more(user, current, told, pageToken) {
  const { revisions = [], nextPageToken = "" } = await call(SERVICE, "ListProfileRevisions", {
    userId: user,
    pageSize: PAGE,
    pageToken,
  });
  const rows = revisions.filter((each) => each.revision !== current.revision).map((each) => row(user, current, each, told));
  if (pageToken) $("revision-list").append(...rows);
  else $("revision-list").replaceChildren(...rows);
  const older = button("Show older ones", () => more(user, current, told, nextPageToken), {
    id: "older",
    hidden: !nextPageToken,
  });
  $("older").replaceWith(older);
  if (pageToken) rows[0]?.querySelector("button").focus();
}

function row(user, current, revision, { restored, conflicted }) {
  const difference = element("p", { class: "prose diff", hidden: true });
  const changes = button(
    "What changed since",
    async () => {
      if (difference.hidden) difference.replaceChildren(...(await parts(user, revision.revision, current.revision)));
      difference.hidden = !difference.hidden;
      changes.setAttribute("aria-expanded", String(!difference.hidden));
    },
    { "aria-label": `What changed since revision ${revision.revision}`, "aria-expanded": "false", class: "small" },
  );
  const restore = button(
    "Restore",
    async () => {
      try {
        await call(SERVICE, "RestoreProfileRevision", { userId: user, revision: revision.revision, etag: current.etag });
      } catch (problem) {
        if (problem.code !== "aborted") throw problem;
        await conflicted();
        throw new Error("The profile was changed elsewhere meanwhile. Look it over and try again.");
      }
      await restored(revision.revision);
      $("profile-title").focus();
    },
    { "aria-label": `Restore revision ${revision.revision}`, class: "small" },
  );
  return element(
    "li",
    { class: "revision" },
    element(
      "p",
      {},
      element("strong", {}, `Revision ${revision.revision}`),
      ` ${ORIGINS[word(revision.origin, "PROFILE_ORIGIN_")]}, `,
      when(revision.createTime),
    ),
    element("p", { class: "prose gist" }, revision.text),
    element("p", { class: "actions" }, changes, restore),
    difference,
  );
}

async function parts(user, fromRevision, toRevision) {
  const found = await call(SERVICE, "DiffProfileRevisions", { userId: user, fromRevision, toRevision });
  return (found.parts ?? []).map((part) => element(TAGS[part.kind], {}, part.text));
}
