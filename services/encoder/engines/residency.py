"""Which versions are in memory: loaded once, shared by all who use them, the least recently used one leaves first.

A version that is in use never leaves by itself: a load waits for room instead. Knows no model; `locate` and `load` are given.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

P = TypeVar("P")
T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    value: T
    uses: int = 0


class Residency(Generic[P, T]):
    """At most `limit` values by version. `locate` (version -> place) and `load` (place -> value) run in threads of their own."""

    def __init__(self, locate: Callable[[str], P], load: Callable[[P], T], limit: int) -> None:
        self._locate = locate
        self._load = load
        self._limit = limit
        self._entries: OrderedDict[str, _Entry[T]] = OrderedDict()  # the least recently used first
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._opening = 0  # loads that have taken a place
        self._changed = asyncio.Condition()

    def versions(self) -> list[str]:
        """The resident versions, the least recently used first."""
        return list(self._entries)

    def values(self) -> list[T]:
        """The resident values, the least recently used first."""
        return [entry.value for entry in self._entries.values()]

    def get(self, version: str) -> T | None:
        """The value of `version` if it is resident."""
        entry = self._entries.get(version)
        return entry.value if entry else None

    @asynccontextmanager
    async def use(self, version: str) -> AsyncIterator[T]:
        """The value of `version`, loaded if it must be; within the block it stays. Raises what `locate` and `load` raise."""
        while version not in self._entries:
            await self._load_once(version)
        entry = self._entries[version]
        self._entries.move_to_end(version)
        entry.uses += 1
        try:
            yield entry.value
        finally:
            entry.uses -= 1
            await self._tell()

    async def load(self, version: str) -> bool:
        """Make `version` resident; whether it was before. Raises what `locate` and `load` raise."""
        if version in self._entries:
            self._entries.move_to_end(version)
            return True
        await self._load_once(version)
        return False

    async def unload(self, version: str) -> None:
        """Forget `version`; those who use it keep it until they are done."""
        if self._entries.pop(version, None):
            await self._tell()

    async def close(self) -> None:
        """Call off what is being loaded and forget everything."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._entries.clear()

    async def _load_once(self, version: str) -> None:
        """One load for all who wait for the same version; a waiter that gives up leaves it running."""
        task = self._loading.get(version)
        if task is None:
            task = asyncio.create_task(self._bring(version))
            self._loading[version] = task
            task.add_done_callback(lambda done: self._loaded(version, done))
        await asyncio.shield(task)

    def _loaded(self, version: str, task: asyncio.Task[None]) -> None:
        del self._loading[version]
        if not task.cancelled():
            task.exception()  # those who wait for it see it; nobody may be left to

    async def _bring(self, version: str) -> None:
        place = await asyncio.to_thread(self._locate, version)  # before anything is evicted for a version that does not exist
        async with self._changed:
            await self._changed.wait_for(self._has_room)
            self._opening += 1
        try:
            self._entries[version] = _Entry(await asyncio.to_thread(self._load, place))
        finally:
            self._opening -= 1
            await self._tell()

    def _has_room(self) -> bool:
        unused = [version for version, entry in self._entries.items() if not entry.uses]
        while len(self._entries) + self._opening >= self._limit and unused:
            del self._entries[unused.pop(0)]
        return len(self._entries) + self._opening < self._limit

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
