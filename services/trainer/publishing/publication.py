"""The record of a publish, in Redis: how far it is, and who works at it now.

    langptune:publish            the record (JSON) of the publish that runs, else of the last one
    langptune:publish:lease      the token of whoever works at it; it runs out when they die

Writes happen only under the lease, so of two trainers one works and the other sees how far it got. The pointer moves in the same
instant as the record's step (`ReleaseRegistry.set_live` with `fence`), so the record never lies about which release is live.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

import redis.asyncio as redis
import structlog
from redis.exceptions import RedisError

from langptune.weights.releases import Fence, LeaseLost
from services.trainer.publishing.gate import Verdict

log = structlog.get_logger(__name__)

_RECORD = "langptune:publish"
_LEASE = "langptune:publish:lease"
_WRITE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end redis.call('SET', KEYS[2], ARGV[2]) return 1"
_RENEW = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
_GIVE_BACK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class Step(StrEnum):
    """PublishStep of the proto."""

    LOAD = "load"
    VERIFY = "verify"
    FLIP = "flip"
    DRAIN = "drain"
    RETIRE = "retire"
    DONE = "done"
    FAILED = "failed"


_BEFORE_FLIP = (Step.LOAD, Step.VERIFY, Step.FLIP)


@dataclass(frozen=True, slots=True)
class Publication:
    """One publish, or rollback."""

    publish_id: str
    release_id: str
    previous: str  # release that was live when it began
    step: Step
    actor: str
    reason: str
    override_reason: str
    verdict: Verdict
    start_ms: int
    step_ms: int  # when the step in hand began
    error: str = ""

    @classmethod
    def begin(
        cls, release_id: str, previous: str, *, actor: str, reason: str, override_reason: str, verdict: Verdict
    ) -> Publication:
        """At its first step, now."""
        now = now_ms()
        return cls(
            uuid.uuid4().hex[:12],
            release_id,
            previous,
            Step.LOAD,
            actor,
            reason,
            override_reason,
            verdict,
            start_ms=now,
            step_ms=now,
        )

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be done."""
        return self.step in (Step.DONE, Step.FAILED)

    @property
    def flipped(self) -> bool:
        """Whether the pointer has moved."""
        return self.step not in (*_BEFORE_FLIP, Step.FAILED)

    def at(self, step: Step, error: str = "") -> Publication:
        """The same at another step, from now on."""
        return replace(self, step=step, step_ms=now_ms(), error=error)

    def to_json(self) -> str:
        """As it stands in Redis."""
        return json.dumps(asdict(self))


class Lease:
    """The right to work at a publish. Methods raise LeaseLost once it is somebody else's."""

    def __init__(self, client: redis.Redis, token: str) -> None:
        self._redis = client
        self._token = token
        self._write = client.register_script(_WRITE)

    async def write(self, publication: Publication) -> Publication:
        """Make it the record."""
        if not await self._write([_LEASE, _RECORD], [self._token, publication.to_json()]):
            raise LeaseLost("the publish has been taken up by another trainer")
        log.info("publish", step=publication.step, release=publication.release_id, publish=publication.publish_id)
        return publication

    def fence(self, publication: Publication) -> Fence:
        """For a move of the pointer that makes `publication` the record."""
        return Fence(_LEASE, self._token, _RECORD, publication.to_json())


class PublicationRecord:
    """The one record, and the lease on it."""

    def __init__(self, client: redis.Redis, lease_seconds: float) -> None:
        self._redis = client
        self._lease_ms = int(lease_seconds * 1_000)
        self._renew = client.register_script(_RENEW)
        self._give_back = client.register_script(_GIVE_BACK)

    async def read(self) -> Publication | None:
        """None before the first publish."""
        stored = await self._redis.get(_RECORD)
        if stored is None:
            return None
        values = json.loads(stored)
        return Publication(**(values | {"step": Step(values["step"]), "verdict": Verdict(values["verdict"])}))

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease | None]:
        """The lease for the length of the block, kept from running out; None while somebody else has it."""
        token = uuid.uuid4().hex
        if not await self._redis.set(_LEASE, token, nx=True, px=self._lease_ms):
            yield None
            return
        over = asyncio.Event()
        keeping = asyncio.create_task(self._keep(token, over))
        try:
            yield Lease(self._redis, token)
        finally:
            over.set()
            await keeping
            await self._return(token)

    async def _keep(self, token: str, over: asyncio.Event) -> None:
        """Renew until `over` (not until cancelled: a command to Redis may swallow that). The next write notices a lost lease."""
        while not over.is_set():
            try:
                await asyncio.wait_for(over.wait(), self._lease_ms / 3_000)
            except TimeoutError:
                await self._extend(token)

    async def _extend(self, token: str) -> None:
        try:
            await self._renew([_LEASE], [token, self._lease_ms])
        except RedisError as error:
            log.warning("publish lease not renewed", error=str(error))

    async def _return(self, token: str) -> None:
        try:
            await self._give_back([_LEASE], [token])
        except RedisError as error:
            log.warning("publish lease not given back; it runs out by itself", error=str(error))


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
