// Earlier texts of the profile: what changed since, and the way back.

import { call } from "./api.js";
import { $, element, pressed, when, word } from "./dom.js";

const SERVICE = "ProfileService";

/** All revisions of `user` but the current one; `restored(revision)` is called after a restore. */
export async function showRevisions(user, current, restored) {
  $("revisions").hidden = !current;
  if (!current) return;
  const { revisions = [] } = await call(SERVICE, "ListProfileRevisions", { userId: user, pageSize: 20 });
  $("revision-list").replaceChildren(
    ...revisions.filter((each) => each.revision !== current.revision).map((each) => row(user, current, each, restored)),
  );
}

function row(user, current, revision, restored) {
  const origin = word(revision.origin, "PROFILE_ORIGIN_");
  const difference = element("p", { class: "diff", hidden: true });
  return element("li", {},
    element("span", {}, `${revision.revision}. ${origin}, ${when(revision.createTime)}`),
    element("button", { "aria-label": `What changed since revision ${revision.revision}`, "aria-expanded": "false",
      onclick: pressed(async (event) => {
        const button = event.currentTarget;
        if (difference.hidden) difference.replaceChildren(...await parts(user, revision.revision, current.revision));
        difference.hidden = !difference.hidden;
        button.setAttribute("aria-expanded", String(!difference.hidden));
      }) }, "What changed since"),
    element("button", { "aria-label": `Restore revision ${revision.revision}`,
      onclick: pressed(async () => {
        await call(SERVICE, "RestoreProfileRevision", { userId: user, revision: revision.revision, etag: current.etag });
        await restored(revision.revision);
      }) }, "Restore"),
    difference);
}

async function parts(user, fromRevision, toRevision) {
  const found = await call(SERVICE, "DiffProfileRevisions", { userId: user, fromRevision, toRevision });
  const tags = { DIFF_KIND_KEPT: "span", DIFF_KIND_REMOVED: "del", DIFF_KIND_ADDED: "ins" };
  return (found.parts ?? []).map((part) => element(tags[part.kind], {}, part.text));
}
