"""Changes of the catalogue: written to the catalogue of record, then to every version in memory.

Versions on disk catch up when they are loaded. Embedding comes before the first write, so an item that cannot be embedded
changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from langptune.domain import Item
from langptune.errors import LangPTuneError, NotFound
from services.decoder.catalogue import Catalogue, catalogue_entry
from services.decoder.resident import ResidentVersion
from services.decoder.versions import VersionPool

AnyT = TypeVar("AnyT")


class ItemStore:
    """The catalogue and its versions, changed together."""

    def __init__(self, catalogue: Catalogue, versions: VersionPool) -> None:
        self._catalogue = catalogue
        self._versions = versions
        self._running: set[asyncio.Task[Any]] = set()

    async def store(self, items: Iterable[Item]) -> int:
        """Add or replace items; how many were new or changed. Of two items with one id the later counts.

        A caller that leaves does not interrupt it.
        """
        return await self._finish(self._store(items))

    async def update(self, item_id: str, change: Callable[[Item], Item]) -> Item:
        """Replace an item by what `change` makes of it. Raises NotFound, and what `change` raises."""
        return await self._finish(self._update(item_id, change))

    async def delete(self, item_ids: Sequence[str]) -> set[str]:
        """Remove items; those that there were. A caller that leaves does not interrupt it."""
        return await self._finish(self._delete(item_ids))

    async def flush(self) -> None:
        """Have what was changed survive a power failure, too."""
        with self._versions.use_all() as resident:
            await self._catalogue.flush()
            for version in resident:
                await version.index.flush()

    async def drain(self) -> None:
        """Wait for the changes that are under way."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _finish(self, change: Coroutine[Any, Any, AnyT]) -> AnyT:
        task = asyncio.create_task(change)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _store(self, items: Iterable[Item]) -> int:
        async with self._versions.writes:
            return await self._write(items)

    async def _update(self, item_id: str, change: Callable[[Item], Item]) -> Item:
        async with self._versions.writes:
            found = await self._catalogue.get([item_id])
            if not found:
                raise NotFound("item", item_id)
            changed = change(found[0])
            await self._write([changed])
            return changed

    async def _write(self, items: Iterable[Item]) -> int:
        given = [catalogue_entry(item) for item in {item.item_id: item for item in items}.values()]
        changed = [entry for entry in given if self._catalogue.revision(entry.item.item_id) != entry.revision]
        if not changed:
            return 0
        with self._versions.use_all() as resident:
            embedded = [await version.embed(changed) for version in resident]
            await self._catalogue.put(changed)
            for version, entries in zip(resident, embedded, strict=True):
                await self._follow(version, version.apply(entries))
        return len(changed)

    async def _delete(self, item_ids: Sequence[str]) -> set[str]:
        async with self._versions.writes:
            known = [item_id for item_id in dict.fromkeys(item_ids) if item_id in self._catalogue]
            if known:
                with self._versions.use_all() as resident:
                    await self._catalogue.delete(known)
                    for version in resident:
                        await self._follow(version, version.remove(known))
            return set(known)

    async def _follow(self, version: ResidentVersion, change: Coroutine[Any, Any, None]) -> None:
        """The catalogue is ahead by now: a version that cannot follow leaves memory, and catches up when it is loaded."""
        try:
            await change
        except LangPTuneError:
            self._versions.retire(version)
