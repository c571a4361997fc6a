"""Copies of all objects of one kind that carry our labels, kept up to date by list and watch.

A watch goes on from the last resource version that it has seen, bookmarks included; where the API no longer knows that version
(410), everything is listed anew. While the API is away the copies are not believed: `objects` raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import structlog

from langptune.errors import LangPTuneError, Unavailable
from services.trainer.cluster.api import ClusterApi, Expired, Kind, Object

log = structlog.get_logger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0  # seconds before the API is asked again, doubled each time


class Watched:
    """`on_change(object, is_there)` is called with every new state, and with the last one of what has been deleted."""

    def __init__(self, api: ClusterApi, kind: Kind, selector: str, on_change: Callable[[Object, bool], None]) -> None:
        self._api = api
        self._kind = kind
        self._selector = selector
        self._on_change = on_change
        self._objects: dict[str, Object] = {}
        self._version = ""
        self._lost = "not listed yet"  # why the copies cannot be believed
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return with the copies in place. Raises Unavailable, FailedPrecondition (not allowed)."""
        await self._list()
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def objects(self) -> list[Object]:
        """As they are now, but for the time that news takes. Raises Unavailable while there is none."""
        if self._task is not None and self._task.done():
            self._lost = "the watch has ended by a defect"
        if self._lost:
            raise Unavailable(f"{self._kind}s are not known: {self._lost}")
        return list(self._objects.values())

    def knows(self, name: str) -> bool:
        """Whether there was one of this name when last heard of."""
        return name in self._objects

    def put(self, found: Object) -> None:
        """What the API has just answered, ahead of the news of it."""
        self._objects[found["metadata"]["name"]] = found

    async def _follow(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                if self._lost:
                    await self._list()
                await self._watch()
                pause = _FIRST_PAUSE
            except Expired:
                self._lost = "the watch has expired"
            except LangPTuneError as error:
                log.warning("watch lost", kind=self._kind, error=error.message)
                self._lost = error.message
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _list(self) -> None:
        before = set(self._objects)  # what is put while the answer is on its way is newer than it
        found, self._version = await self._api.listed(self._kind, self._selector)
        gone = before - {each["metadata"]["name"] for each in found}
        for name in gone:
            self._on_change(self._objects.pop(name), False)
        for each in found:
            self.put(each)
            self._on_change(each, True)
        self._lost = ""

    async def _watch(self) -> None:
        async with aclosing(self._api.watch(self._kind, self._selector, self._version)) as events:
            async for what, found in events:
                self._version = found["metadata"]["resourceVersion"]
                if what == "BOOKMARK":
                    continue
                if what == "DELETED":
                    self._objects.pop(found["metadata"]["name"], None)
                else:
                    self.put(found)
                self._on_change(found, what != "DELETED")
