"""A look at a store every few seconds, for those who must not wait: a scrape of metrics gets the last look, and its age."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Looking(Generic[T]):
    """Calls `look` again and again; a Redis that is away makes what was seen older, and nothing else."""

    def __init__(self, look: Callable[[], Awaitable[T]], nothing: T, every: float) -> None:
        """`nothing`: what is seen before the first look; `every`: seconds between two."""
        self._look = look
        self._seen = nothing
        self._every = every
        self._looked = time.monotonic()

    def seen(self) -> tuple[T, float]:
        """What the last look that succeeded found, and its age in seconds; from any thread."""
        return self._seen, time.monotonic() - self._looked

    async def look(self) -> None:
        """One look. Raises redis errors."""
        self._seen = await self._look()
        self._looked = time.monotonic()

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping`."""
        while not stopping.is_set():
            try:
                await self.look()
            except RedisError as error:
                log.warning("metrics not read", error=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), self._every)
