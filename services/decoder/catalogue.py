"""The catalogue of record: every item's document, in a collection of its own that belongs to no version.

The versions' indexes are derived from it. In memory stand only the ids, and the revisions that tell what has changed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from langptune.domain import Item
from services.decoder.documents import indexed_revision, revision
from services.decoder.index import Collection, Entry, ItemFilter


def catalogue_entry(item: Item) -> Entry:
    """An item as the catalogue stores it."""
    return Entry(item, revision(item))


class Catalogue:
    """All items, by id."""

    def __init__(self, collection: Collection, revisions: Mapping[str, str]) -> None:
        self._collection = collection
        self._revisions = dict(revisions)
        self._order: list[str] | None = None  # the ids sorted; None until a page asks for them

    @classmethod
    async def load(cls, collection: Collection) -> Catalogue:
        """The catalogue that the collection holds."""
        return cls(collection, await collection.revisions())

    def __len__(self) -> int:
        return len(self._revisions)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._revisions

    def revision(self, item_id: str) -> str | None:
        """The revision that is stored; None for an unknown item."""
        return self._revisions.get(item_id)

    async def put(self, entries: Sequence[Entry]) -> None:
        """Add or replace items; what has returned survives a killed process."""
        await self._collection.put(entries)
        self._revisions.update({entry.item.item_id: entry.revision for entry in entries})
        self._order = None

    async def delete(self, item_ids: Sequence[str]) -> None:
        """Remove items; as durable as `put`."""
        await self._collection.delete(item_ids)
        for item_id in item_ids:
            self._revisions.pop(item_id, None)
        self._order = None

    async def flush(self) -> None:
        """Have all items survive a power failure, too."""
        await self._collection.flush()

    async def get(self, item_ids: Sequence[str]) -> list[Item]:
        """The known ones, in the order asked for."""
        return await self._collection.get(item_ids)

    async def matching(self, where: ItemFilter) -> list[str]:
        """Ids of the items that `where` passes."""
        return await self._collection.matching(where)

    async def page(self, after: str, size: int) -> tuple[list[Item], bool]:
        """Up to `size` items in the order of their ids, past the id `after`; and whether there are more."""
        if self._order is None:
            self._order = sorted(self._revisions)
        start = bisect_right(self._order, after) if after else 0
        chosen = self._order[start : start + size]
        return await self.get(chosen), start + size < len(self._revisions)

    def stale(self, indexed: Mapping[str, str], recipe: str) -> list[str]:
        """Ids of the items that an index of these revisions lacks, or has otherwise, or embedded by another recipe."""
        return [item_id for item_id, now in self._revisions.items() if indexed.get(item_id) != indexed_revision(now, recipe)]

    async def close(self) -> None:
        """Release the collection."""
        await self._collection.close()
