"""Whose profile is to be written again: a queue in Redis, in which each user is once at most.

A stream of user ids, read by the gateways as one consumer group; a sorted set of users whose refresh has failed and waits for its
next attempt; one of those that were given up; and per user a hash: `fresh` (interactions recorded since the profile was last
written from the history), `job` (the id of the user's entry in the stream, or `delayed`, or `dead`), `attempts`, and the last
failure. So a user's queued work is found by the user's id. Every move is one script. An attempt is counted before it is made, so
a job that kills its worker is given up like any other. Redis 6.2; one server, no cluster: the scripts reach several users' keys.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio as redis
from redis.exceptions import ResponseError

from langptune.convert import check_id, check_range
from langptune.errors import LangPTuneError
from services.gateway.paging import bad_token, from_token, to_token
from services.gateway.refresh import scripts
from services.gateway.refresh.scripts import DEAD, DELAYED, STATE, STREAM, state_key

_GROUP = "gateways"
_FAILURE = ("code", "message")
_REPLAYED = 1_000  # at once


@dataclass(frozen=True, slots=True)
class Job:
    """A user whose profile one worker writes now."""

    user_id: str
    entry_id: str  # in the stream
    attempt: int  # from 1


@dataclass(frozen=True, slots=True)
class Depth:
    """How much there is to do."""

    queued: int
    running: int
    delayed: int
    dead: int
    lag: float  # seconds since the oldest of the queued and the running was queued; 0.0 for none


@dataclass(frozen=True, slots=True)
class Dead:
    """A refresh that was given up."""

    user_id: str
    code: str  # name of the gRPC status of the last failure
    message: str
    attempts: int
    time_ms: int


class RefreshQueue:
    """The queue. `after` new interactions are enough for a refresh; 0 queues none."""

    def __init__(self, client: redis.Redis, after: int) -> None:
        self.after = after
        self._redis = client
        self._begin, self._renew, self._release = map(client.register_script, (scripts.BEGIN, scripts.RENEW, scripts.RELEASE))
        self._settle, self._fail, self._leave = map(client.register_script, (scripts.SETTLE, scripts.FAIL, scripts.LEAVE))
        self._promote, self._replay = map(client.register_script, (scripts.PROMOTE, scripts.REPLAY))

    async def state(self, user_id: str) -> tuple[int, bool]:
        """Interactions recorded since the profile was last written, and whether a refresh waits or is under way."""
        fresh, job = await self._redis.hmget(state_key(user_id), ["fresh", "job"])
        return int(fresh or 0), job not in (None, b"dead")

    async def settle(self, user_id: str, seen: int) -> None:
        """A profile was written that knows the first `seen` of the new interactions: whatever was queued for the user is done."""
        await self._settle(keys=[STREAM, state_key(user_id), DELAYED, DEAD], args=[user_id, -seen, self.after])

    async def forget(self, user_id: str) -> None:
        """Remove all that the queue knows of a user."""
        await self.settle(user_id, 2**53)
        await self._redis.delete(state_key(user_id))

    # For workers

    async def take(self, consumer: str, lease: float, block: float) -> Job | None:
        """The next refresh to be tried: one whose worker has been silent for `lease` seconds, else the oldest that waits.

        Waits up to `block` seconds for one. What is taken belongs to `consumer` as long as it is held (`hold`).
        """
        await self._create_group()
        await self._promote(keys=[STREAM, DELAYED], args=[_now(), STATE])
        claimed: Any = await self._redis.xautoclaim(STREAM, _GROUP, consumer, int(lease * 1_000), count=1)
        entries = claimed[1]
        if not entries:
            entries = _entries(await self._redis.xreadgroup(_GROUP, consumer, {STREAM: ">"}, 1, max(1, int(block * 1_000))))
        for entry_id, fields in entries:
            user_id, name = fields[b"user"].decode(), entry_id.decode()
            if attempt := await self._begin(keys=[STREAM, state_key(user_id)], args=[name]):
                return Job(user_id, name, int(attempt))
        return None

    async def hold(self, job: Job, consumer: str) -> bool:
        """Begin the lease of a job anew; False when another worker has taken it over."""
        return bool(await self._renew(keys=[STREAM], args=[job.entry_id, consumer]))

    async def postpone(self, job: Job, error: LangPTuneError, delay: float) -> None:
        """Try again in `delay` seconds."""
        moment = _now() + int(delay * 1_000)
        arguments = [job.entry_id, job.user_id, "delayed", moment, error.code.name, error.message]
        await self._fail(keys=[STREAM, state_key(job.user_id), DELAYED], args=arguments)

    async def bury(self, job: Job, error: LangPTuneError) -> None:
        """Give a job up; operators see it and may replay it."""
        arguments = [job.entry_id, job.user_id, "dead", _now(), error.code.name, error.message]
        await self._fail(keys=[STREAM, state_key(job.user_id), DEAD], args=arguments)

    async def release(self, job: Job) -> None:
        """Hand a job back that was not finished for reasons of the worker's own; the attempt does not count."""
        await self._release(keys=[STREAM, state_key(job.user_id)], args=[job.entry_id, job.user_id])

    async def leave(self, consumer: str) -> None:
        """A consumer that ends; what it holds still is kept under its name until another takes it over."""
        await self._leave(keys=[STREAM], args=[consumer])

    # For operators

    async def depth(self) -> Depth:
        """How much waits, and for how long."""
        await self._create_group()
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xlen(STREAM)
            pipe.xpending(STREAM, _GROUP)
            pipe.zcard(DELAYED)
            pipe.zcard(DEAD)
            pipe.xrange(STREAM, count=1)
            length, pending, delayed, dead, oldest = await pipe.execute()
        lag = max(0, _now() - int(oldest[0][0].split(b"-")[0])) / 1_000 if oldest else 0.0
        return Depth(length - pending["pending"], pending["pending"], delayed, dead, lag)

    async def dead(self, size: int, token: str) -> tuple[list[Dead], str, int]:
        """Up to `size` (1 to 1,000, 0 means 100) refreshes that were given up, the oldest first, next token, and how many."""
        size = check_range("page_size", size, 1, 1_000, default=100)
        start = 0
        if after := from_token(token):
            rank: Any = await self._redis.zrank(DEAD, after)
            if rank is None:
                raise bad_token()
            start = rank + 1
        total = int(await self._redis.zcard(DEAD))
        found: Any = await self._redis.zrange(DEAD, start, start + size - 1, withscores=True)
        async with self._redis.pipeline(transaction=False) as pipe:
            for user, _ in found:
                pipe.hmget(STATE + user.decode(), ["attempts", *_FAILURE])
            told = await pipe.execute()
        page = [
            Dead(user.decode(), (code or b"").decode(), (message or b"").decode(), int(attempts or 0), int(moment))
            for (user, moment), (attempts, code, message) in zip(found, told, strict=True)
        ]
        more = page and start + len(page) < total
        return page, to_token(page[-1].user_id) if more else "", total

    async def replay(self, user_ids: Sequence[str]) -> int:
        """Queue dead refreshes again, those of `user_ids` (at most 1,000) or the oldest 1,000; how many there were."""
        check_range("user_ids", len(user_ids), 0, _REPLAYED)
        users = [check_id(f"user_ids[{at}]", user_id) for at, user_id in enumerate(user_ids)]
        if not users:
            oldest: Any = await self._redis.zrange(DEAD, 0, _REPLAYED - 1)
            users = [user.decode() for user in oldest]
        return int(await self._replay(keys=[STREAM, DEAD], args=[STATE, *users])) if users else 0

    async def _create_group(self) -> None:
        try:
            await self._redis.xgroup_create(STREAM, _GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # it is there already
                raise


def _entries(streams: Any) -> list[Any]:
    """The entries of the one stream that was read, in the form of either protocol of Redis."""
    if not streams:
        return []
    (found,) = streams.values() if isinstance(streams, dict) else [entries for _, entries in streams]
    return list(found[0]) if found and isinstance(found[0], list) else list(found)


def _now() -> int:
    return time.time_ns() // 1_000_000
