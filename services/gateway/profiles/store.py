"""Profiles in Redis: a numbered line of immutable revisions per user, extended only by compare-and-set on the etag.

One hash per user: <revision number> -> the revision as JSON, `sources:<revision number>` -> the keys of the interactions that it
was written from, `current` -> a copy of the newest revision, `etag` -> its etag; beside them `suggestion`, a text that waits for
the user's decision, and `mark:<sentence>` for each sentence that the user has marked. A change is one script, so it happens whole
or not at all, and nobody's change is lost. That an acknowledged change is on disk is Redis's part
(services/gateway/durability.py). Who writes the text is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import redis.asyncio as redis

from langptune.convert import check_id, check_range
from langptune.errors import Aborted, InvalidArgument, NotFound
from langptune.state import Read
from services.gateway.live import Pins
from services.gateway.paging import bad_token, from_token, to_token
from services.gateway.profiles.erasure import erasure_key
from services.gateway.profiles.marks import MARK, Mark, Marks, mark_field, without
from services.gateway.profiles.revision import Draft, Origin, Revision, Suggestion, following, normalise

_KEY = "langptune:profile:{}"
_SUGGESTION = "suggestion"
NO_SUGGESTION = {_SUGGESTION: ""}  # beside a revision that makes it needless
_ERASED = "erased"  # in place of an etag
# For the scripts below: whether the user's data was deleted (KEYS[2]) since `begun`, which is '-' for what needs no such check.
_DELETED = """
local function deleted(begun)
  return begun ~= '-' and (redis.call('GET', KEYS[2]) or '') ~= begun
end
"""
# KEYS: the profile, erasures. ARGV: etag expected, revision number, the revision, its etag, revisions to keep, begun, then fields
# beside it and their values ("" takes the field away). Returns the etag found.
_COMPARE_AND_SET = f"""{_DELETED}
if deleted(ARGV[6]) then return '{_ERASED}' end
local found = redis.call('HGET', KEYS[1], 'etag') or ''
if found == ARGV[1] then
  redis.call('HSET', KEYS[1], ARGV[2], ARGV[3], 'current', ARGV[3], 'etag', ARGV[4])
  redis.call('HDEL', KEYS[1], ARGV[2] - ARGV[5], 'sources:' .. (ARGV[2] - ARGV[5]))
  for at = 7, #ARGV, 2 do
    if ARGV[at + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[at])
    else redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1]) end
  end
end
return found
"""
# KEYS: as above. ARGV: begun, the suggestion.
_SUGGEST = f"""{_DELETED}
if deleted(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], '{_SUGGESTION}', ARGV[2])
return 1
"""


class Profiles:
    """All users' profiles."""

    def __init__(self, client: redis.Redis, revisions_kept: int) -> None:
        self._redis = client
        self._kept = revisions_kept
        self._compare_and_set = client.register_script(_COMPARE_AND_SET)
        self._suggest = client.register_script(_SUGGEST)

    async def find(self, user_id: str) -> Revision | None:
        """The current revision. Raises InvalidArgument for a bad user id."""
        return await self.current(user_id).by(self._redis)

    def current(self, user_id: str) -> Read[Revision | None]:
        """`find`, to be asked together with others."""
        return Read(("HGET", _key(user_id), "current"), _revision)

    async def get(self, user_id: str) -> Revision:
        """The current revision. Raises NotFound."""
        current = await self.find(user_id)
        if current is None:
            raise NotFound("profile", user_id)
        return current

    async def edit(self, user_id: str, text: str, etag: str, live: Pins) -> Revision:
        """Store the user's own words; the same words once more are the revision that has them, whatever its etag was before.

        Raises InvalidArgument, and Aborted when `etag` is not the current one ("" for none).
        """
        draft = Draft(normalise(text), Origin.EDITED, live, own_words=True)
        current = await self.find(user_id)
        if current and current.etag != etag and (current.origin, current.text) == (Origin.EDITED, draft.text):
            return current  # the same call again: its first answer was lost on the way
        return await self.extend(user_id, current, draft, expected=etag)

    async def restore(self, user_id: str, revision: int, etag: str) -> Revision:
        """Make an old text current again. Raises NotFound for an unknown or forgotten revision, and as `edit` does."""
        old = await self.at(user_id, revision)
        current = await self.get(user_id)
        sources = await self.sources(user_id, revision)
        draft = Draft(old.text, Origin.RESTORED, old.pins, old.interactions, old.own_words, sources)
        return await self.extend(user_id, current, draft, expected=etag)

    async def at(self, user_id: str, revision: int, field: str = "revision") -> Revision:
        """One kept revision. Raises InvalidArgument naming `field` for no number of one, NotFound for what is not there."""
        check_range(field, revision, 1, 2**53)
        await self.get(user_id)
        found = _revision(await self._redis.hget(_key(user_id), str(revision)))
        if found is None:
            raise NotFound("profile revision", f"{user_id}/{revision}")
        return found

    async def sources(self, user_id: str, revision: int) -> list[str]:
        """Keys of the interactions that a revision was written from, oldest first; none for the user's own words."""
        stored = await self._redis.hget(_key(user_id), _sources(revision))
        return list(json.loads(stored)) if stored else []

    async def extend(
        self,
        user_id: str,
        current: Revision | None,
        draft: Draft,
        *,
        expected: str,
        beside: Mapping[str, str] | None = None,  # fields of the hash to set with it; "" takes one away
        begun: str = "-",  # the user's erasures when the draft was begun; "-": they do not matter
    ) -> Revision:
        """Store `draft` behind `current` if that is still the newest and `expected` is its etag. Raises Aborted otherwise.

        Also where the user's data was deleted since `begun`.
        """
        found = current.etag if current else ""
        if found == expected:
            added = following(user_id, current, draft)
            kept = {_sources(added.revision): json.dumps(draft.sources)} if draft.sources else {}
            fields = [part for pair in {**kept, **(beside or {})}.items() for part in pair]
            arguments: list[str | int] = [expected, added.revision, added.dumped(), added.etag, self._kept, begun, *fields]
            found = (await self._compare_and_set(keys=_keys(user_id), args=arguments)).decode()
            if found == _ERASED:
                raise _deleted_meanwhile()
            if found in (expected, added.etag):  # ours: the client may have sent the script twice
                return added
        raise Aborted("the profile was changed meanwhile; read it again", etag=found)

    async def suggestion(self, user_id: str) -> Suggestion | None:
        """What waits for the user's decision."""
        stored = await self._redis.hget(_key(user_id), _SUGGESTION)
        return Suggestion.loaded(stored) if stored is not None else None

    async def suggest(self, user_id: str, suggestion: Suggestion, *, begun: str = "-") -> None:
        """Lay a text beside the profile, in place of one that lay there. Raises Aborted as `extend` does of `begun`."""
        if not await self._suggest(keys=_keys(user_id), args=[begun, suggestion.dumped()]):
            raise _deleted_meanwhile()

    async def accept(self, user_id: str, etag: str, merged_text: str) -> Revision:
        """The suggestion, or `merged_text` in its place, becomes the profile. Raises NotFound without one, and as `edit` does."""
        current = await self.find(user_id)
        found = await self.suggestion(user_id)
        if found is None:
            raise NotFound("profile suggestion", user_id)
        text = normalise(merged_text) if merged_text else found.text
        merged = text != found.text
        draft = Draft(text, Origin.SUGGESTED, found.pins, found.interactions, own_words=merged, sources=found.sources)
        return await self.extend(user_id, current, draft, expected=etag, beside=NO_SUGGESTION)

    async def dismiss(self, user_id: str) -> None:
        """Forget the suggestion, if there is one."""
        await self._redis.hdel(_key(user_id), _SUGGESTION)

    async def marks(self, user_id: str) -> Marks:
        """What the user said of sentences."""
        stored = self._redis.hscan_iter(_key(user_id), match=f"{MARK}*", count=1_000)  # most fields are revisions
        return Marks.loaded({name.decode(): value.decode() async for name, value in stored})

    async def mark(self, user_id: str, sentence: str, mark: Mark, etag: str, live: Pins) -> Revision:
        """Pin a sentence of the profile, take it out as not true, or take the mark back.

        Raises NotFound without a profile, InvalidArgument for what is no sentence of it (NONE: is not marked), or the only one
        and not true; and as `edit` does.
        """
        current = await self.get(user_id)
        if current.etag != etag:
            raise Aborted("the profile was changed meanwhile; read it again", etag=current.etag)
        field = mark_field(sentence)
        if mark is Mark.NONE:
            if not await self._redis.hdel(_key(user_id), field):
                raise InvalidArgument("sentence", "is not marked")
            return current
        left = without(current.text, sentence)
        if left is None:
            raise InvalidArgument("sentence", "is no sentence of the profile as it is")
        stored = json.dumps({"sentence": sentence, "mark": mark})
        if mark is Mark.PINNED:
            await self._redis.hset(_key(user_id), field, stored)
            return current
        if not left:
            raise InvalidArgument("sentence", "is the whole profile: write another text in its place")
        sources = await self.sources(user_id, current.revision)  # the mark outlives a new text by itself
        draft = Draft(left, Origin.EDITED, live, current.interactions, current.own_words, sources)
        return await self.extend(user_id, current, draft, expected=etag, beside={field: stored})

    async def forget(self, user_id: str) -> int:
        """Remove profile, revisions, suggestion and marks; returns how many revisions there were."""
        names: Any = await self._redis.hkeys(_key(user_id))
        await self._redis.delete(_key(user_id))
        return sum(name.isdigit() for name in names)

    async def revisions(self, user_id: str, size: int, token: str) -> tuple[list[Revision], str]:
        """Up to `size` (1 to 100, 0 means 20) kept revisions, newest first, and the next page's token. Raises NotFound."""
        size = check_range("page_size", size, 1, 100, default=20)
        after = from_token(token)
        newest = (await self.get(user_id)).revision
        if after and not (after.isdecimal() and 1 <= int(after) <= newest):
            raise bad_token()
        first = int(after) - 1 if after else newest
        wanted = range(first, max(0, first - size), -1)
        stored = await self._redis.hmget(_key(user_id), [str(number) for number in wanted]) if wanted else []
        page = [revision for revision in map(_revision, stored) if revision]
        oldest_kept = max(1, newest - self._kept + 1)
        more = bool(page) and page[-1].revision > oldest_kept
        return page, to_token(str(page[-1].revision)) if more else ""


def _revision(stored: bytes | str | None) -> Revision | None:
    return Revision.loaded(stored) if stored is not None else None


def _deleted_meanwhile() -> Aborted:
    return Aborted("the user's data was deleted meanwhile; nothing was stored", etag="")


def _keys(user_id: str) -> list[str]:
    return [_key(user_id), erasure_key(user_id)]


def _sources(revision: int) -> str:
    """The field that names what a revision was written from."""
    return f"sources:{revision}"


def _key(user_id: str) -> str:
    return _KEY.format(check_id("user_id", user_id))
