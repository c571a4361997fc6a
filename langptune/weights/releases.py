"""Releases: which pair of weights versions answers users, and which did before (Redis).

A release pins {encoder version, decoder version} and never changes. The live one is a pointer that moves by compare-and-set; a
rollback is the same move backwards. Loading the versions before the pointer moves is the trainer's work, not ours.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import redis.asyncio as redis
from redis.exceptions import WatchError

from langptune.errors import Aborted, FailedPrecondition, NotFound

_RELEASE = "langptune:release:{}"
_ORDER = "langptune:releases"  # sorted set: release id by creation time
_LIVE = "langptune:release-live"
_HISTORY = "langptune:release-history"  # list, newest first: what was live, since when and why
_COUNTER = "langptune:release-counter"


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


class ReleaseRegistry:
    """All releases and the live pointer."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    async def create(
        self,
        encoder_version: str,
        decoder_version: str,
        *,
        parent_release_id: str = "",
        job_id: str = "",
        validation: Mapping[str, float] | None = None,
    ) -> Release:
        """A new release, not live. Its id is "r" and a counter."""
        number = int(await self._redis.incr(_COUNTER))
        release = Release(
            release_id=f"r{number}",
            encoder_version=encoder_version,
            decoder_version=decoder_version,
            parent_release_id=parent_release_id,
            job_id=job_id,
            create_time_ms=time.time_ns() // 1_000_000,
            validation=dict(validation or {}),
        )
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_RELEASE.format(release.release_id), json.dumps(asdict(release)))
            pipe.zadd(_ORDER, {release.release_id: number})
            await pipe.execute()
        return release

    async def get(self, release_id: str) -> Release:
        """Raises NotFound."""
        stored = await self._redis.get(_RELEASE.format(release_id))
        if stored is None:
            raise NotFound("release", release_id)
        return Release(**json.loads(stored))

    async def live(self) -> Release:
        """The release that answers users now. Raises NotFound before the first."""
        release_id = await self._redis.get(_LIVE)
        if release_id is None:
            raise NotFound("release", "live")
        return await self.get(_text(release_id))

    async def page(self, size: int, before: str = "") -> list[Release]:
        """Up to `size` releases, newest first, older than release `before` (empty: from the newest)."""
        last = f"({before.removeprefix('r')}" if before else "+inf"
        found = await self._redis.zrange(_ORDER, last, "-inf", byscore=True, desc=True, offset=0, num=size)
        return [await self.get(_text(release_id)) for release_id in cast(list[bytes], found)]

    async def set_live(self, release_id: str, *, expected: str | None, reason: str) -> str:
        """Move the live pointer and return what was live before ("" for nothing).

        `expected` is the release that must be live for the move to happen ("" for none), None skips the check. Raises Aborted
        with the live release as etag, and NotFound for an unknown release.
        """
        await self.get(release_id)
        while True:
            async with self._redis.pipeline(transaction=True) as pipe:
                try:
                    await pipe.watch(_LIVE)
                    live = _text(await pipe.get(_LIVE) or b"")
                    if expected is not None and live != expected:
                        raise Aborted(f"release {live or 'none'} is live, not {expected or 'none'}", etag=live)
                    if live == release_id:
                        return live
                    pipe.multi()  # type: ignore[no-untyped-call]  # redis leaves this one method untyped
                    pipe.set(_LIVE, release_id)
                    pipe.lpush(_HISTORY, _move(release_id, previous=live, reason=reason))
                    await pipe.execute()
                    return live
                except WatchError:
                    continue

    async def previous(self) -> str:
        """The release to go back to: what was live before the live one was published. Raises FailedPrecondition for none."""
        entries = await self.history(1)
        if not entries or not entries[0]["previous"]:
            raise FailedPrecondition("no release was live before this one", reason="NOTHING_TO_ROLL_BACK_TO")
        return str(entries[0]["previous"])

    async def history(self, size: int) -> list[dict[str, Any]]:
        """The last `size` moves of the pointer, newest first: release_id, previous, reason, at_ms."""
        return [json.loads(entry) for entry in await self._redis.lrange(_HISTORY, 0, size - 1)]


def _move(release_id: str, *, previous: str, reason: str) -> str:
    now = time.time_ns() // 1_000_000
    return json.dumps({"release_id": release_id, "previous": previous, "reason": reason, "at_ms": now})


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
