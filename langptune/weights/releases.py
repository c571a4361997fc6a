"""Releases: which pair of weights versions answers users, and which did before (Redis).

A release pins {encoder version, decoder version} and never changes. The live one is a pointer that moves by compare-and-set; a
rollback is the same move backwards. Every move is kept: who, when, why, and the metrics of what became live. Loading the
versions before the pointer moves is the trainer's work, not ours.

    langptune:release:<id>       JSON;   langptune:releases: sorted set of ids in order of creation
    langptune:release-live       the pointer;   langptune:release-history: its moves, newest first
    langptune:release:<id>:evaluation   the scores that the gate compares, user by user
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import redis.asyncio as redis

from langptune.errors import Aborted, FailedPrecondition, NotFound
from langptune.state import Read
from langptune.weights.evaluation import Evaluation

_RELEASE = "langptune:release:{}"
_EVALUATION = "langptune:release:{}:evaluation"
_ORDER = "langptune:releases"
_LIVE = "langptune:release-live"
_HISTORY = "langptune:release-history"
_COUNTER = "langptune:release-counter"

LIVE_ID = Read(("GET", _LIVE), lambda stored: _text(stored or ""))  # of the release that answers users; "" before the first

# KEYS: live, history, release, and for a fenced move the lease and a record that changes with the pointer.
# ARGV: release id, expected ('' for none), '1' if expected counts, the history's entry as JSON, then lease token and record.
# Returns {0, previous} when done or when it was live before, {1, live} for another live release, {2} for no such release, {3} for
# a lease that is somebody else's.
_MOVE = """
if KEYS[4] and redis.call('GET', KEYS[4]) ~= ARGV[5] then return {3, ''} end
if redis.call('EXISTS', KEYS[3]) == 0 then return {2, ''} end
local live = redis.call('GET', KEYS[1]) or ''
if live ~= ARGV[1] then
  if ARGV[3] == '1' and live ~= ARGV[2] then return {1, live} end
  redis.call('SET', KEYS[1], ARGV[1])
  local move = cjson.decode(ARGV[4])
  move['previous'] = live
  redis.call('LPUSH', KEYS[2], cjson.encode(move))
end
if KEYS[5] then redis.call('SET', KEYS[5], ARGV[6]) end
return {0, live}
"""

# KEYS: live, history, counter, order. ARGV: key prefix, the release as JSON, the move as JSON. Returns the live release's id.
_FIRST = """
local live = redis.call('GET', KEYS[1])
if live then return live end
local number = redis.call('INCR', KEYS[3])
local release_id = 'r' .. number
local release, move = cjson.decode(ARGV[2]), cjson.decode(ARGV[3])
release['release_id'], move['release_id'] = release_id, release_id
redis.call('SET', ARGV[1] .. release_id, cjson.encode(release))
redis.call('ZADD', KEYS[4], number, release_id)
redis.call('LPUSH', KEYS[2], cjson.encode(move))
redis.call('SET', KEYS[1], release_id)
return release_id
"""


class LeaseLost(Exception):
    """A fenced move came from someone whose lease has run out."""


@dataclass(frozen=True, slots=True)
class Release:
    """A pair of versions that can be made live."""

    release_id: str
    encoder_version: str
    decoder_version: str
    parent_release_id: str = ""
    job_id: str = ""
    create_time_ms: int = 0
    validation: Mapping[str, float] = field(default_factory=dict)  # ndcg, recall, mrr, cutoff, users
    retired: bool = False  # its weights have been removed; it can never be live again

    def version(self, kind: str) -> str:
        """Of "encoder" or "decoder"."""
        return {"encoder": self.encoder_version, "decoder": self.decoder_version}[kind]


@dataclass(frozen=True, slots=True)
class Why:
    """Who moves the pointer, and why; kept in the history."""

    actor: str = ""  # as they name themselves
    reason: str = ""
    override_reason: str = ""  # why the gate was overridden; "" when it was not
    publish_id: str = ""  # the publish that this move belongs to; "" for the first release


@dataclass(frozen=True, slots=True)
class Move:
    """The pointer moved."""

    release_id: str
    previous: str  # release that was live before; "" for none
    at_ms: int
    why: Why
    validation: Mapping[str, float]  # of the release that became live


@dataclass(frozen=True, slots=True)
class Fence:
    """Lets a move happen only while `lease` holds `token`, and sets `record` to `content` in the same instant."""

    lease: str
    token: str
    record: str
    content: str


class ReleaseRegistry:
    """All releases and the live pointer."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._move = client.register_script(_MOVE)
        self._first = client.register_script(_FIRST)

    async def create(
        self,
        encoder_version: str,
        decoder_version: str,
        *,
        parent_release_id: str = "",
        job_id: str = "",
        validation: Mapping[str, float] | None = None,
        evaluation: Evaluation | None = None,
    ) -> Release:
        """A new release, not live. Its id is "r" and a counter."""
        number = int(await self._redis.incr(_COUNTER))
        release = Release(
            release_id=f"r{number}",
            encoder_version=encoder_version,
            decoder_version=decoder_version,
            parent_release_id=parent_release_id,
            job_id=job_id,
            create_time_ms=_now_ms(),
            validation=dict(validation or {}),
        )
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_RELEASE.format(release.release_id), json.dumps(asdict(release)))
            if evaluation is not None:
                pipe.set(_EVALUATION.format(release.release_id), evaluation.to_json())
            pipe.zadd(_ORDER, {release.release_id: number})
            await pipe.execute()
        return release

    async def ensure_first(self, encoder_version: str, decoder_version: str, *, reason: str) -> Release:
        """The live release; without one, a new release of this pair is made live in the same instant."""
        first = Release("", encoder_version, decoder_version, create_time_ms=_now_ms())
        move = _move("", Why(reason=reason), {})
        keys = [_LIVE, _HISTORY, _COUNTER, _ORDER]
        live: bytes = await self._first(keys, [_RELEASE.format(""), json.dumps(asdict(first)), json.dumps(move)])
        return await self.get(live.decode())

    async def get(self, release_id: str) -> Release:
        """Raises NotFound."""
        stored = await self._redis.get(_RELEASE.format(release_id))
        if stored is None:
            raise NotFound("release", release_id)
        return Release(**json.loads(stored))

    async def evaluation(self, release_id: str) -> Evaluation | None:
        """What the release's job found on its validation users; None for one that was not measured."""
        stored = await self._redis.get(_EVALUATION.format(release_id))
        return Evaluation.from_json(stored) if stored else None

    async def live_id(self) -> str:
        """LIVE_ID."""
        return await LIVE_ID.by(self._redis)

    async def live(self) -> Release:
        """The release that answers users now. Raises NotFound before the first."""
        release_id = await self.live_id()
        if not release_id:
            raise NotFound("release", "live")
        return await self.get(release_id)

    async def page(self, size: int, before: str = "") -> list[Release]:
        """Up to `size` releases, newest first, older than release `before` (empty: from the newest)."""
        last = f"({before.removeprefix('r')}" if before else "+inf"
        found = await self._redis.zrange(_ORDER, last, "-inf", byscore=True, desc=True, offset=0, num=size)
        return [await self.get(_text(release_id)) for release_id in cast(list[bytes], found)]

    async def set_live(self, release_id: str, *, expected: str | None, why: Why, fence: Fence | None = None) -> str:
        """Move the live pointer and return what was live before ("" for nothing). Nothing happens to a release that is live.

        `expected` is the release that must be live for the move to happen ("" for none), None skips the check. Raises Aborted
        with the live release as etag, NotFound for an unknown release, LeaseLost where `fence` forbids it.
        """
        release = await self.get(release_id)
        keys = [_LIVE, _HISTORY, _RELEASE.format(release_id)]
        move = json.dumps(_move(release_id, why, release.validation))
        arguments: list[str | int] = [release_id, expected or "", int(expected is not None), move]
        if fence is not None:
            keys += [fence.lease, fence.record]
            arguments += [fence.token, fence.content]
        code, live = await self._move(keys, arguments)
        match code:
            case 1:
                raise Aborted(f"release {_text(live) or 'none'} is live, not {expected or 'none'}", etag=_text(live))
            case 2:
                raise NotFound("release", release_id)
            case 3:
                raise LeaseLost(f"somebody else publishes now, not {fence.token if fence else ''}")
        return _text(live)

    async def previous(self) -> str:
        """The release to go back to: what was live before the live one was published. Raises FailedPrecondition for none."""
        moves = await self.history(1)
        if not moves or not moves[0].previous:
            raise FailedPrecondition("no release was live before this one", reason="NOTHING_TO_ROLL_BACK_TO")
        return moves[0].previous

    async def history(self, size: int, start: int = 0) -> list[Move]:
        """`size` moves of the pointer, newest first, from the `start`-th on."""
        entries = cast(list[bytes], await self._redis.lrange(_HISTORY, start, start + size - 1))
        return [_moved(json.loads(entry)) for entry in entries]

    async def has_been_live(self, release_id: str) -> bool:
        """Whether the release answers users, or has."""
        entries = cast(list[bytes], await self._redis.lrange(_HISTORY, 0, -1))
        return any(json.loads(entry)["release_id"] == release_id for entry in entries)

    async def retire(self, release_id: str) -> Release:
        """Note that the release's weights are being removed: it can be looked at, and never be live again."""
        release = replace(await self.get(release_id), retired=True)
        await self._redis.set(_RELEASE.format(release_id), json.dumps(asdict(release)))
        return release


def _move(release_id: str, why: Why, validation: Mapping[str, float]) -> dict[str, Any]:
    return {"release_id": release_id, "previous": "", "at_ms": _now_ms(), "why": asdict(why), "validation": dict(validation)}


def _moved(stored: dict[str, Any]) -> Move:
    return Move(stored["release_id"], stored["previous"], stored["at_ms"], Why(**stored["why"]), stored["validation"])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
