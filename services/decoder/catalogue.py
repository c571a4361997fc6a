"""The catalogue of record: every item's document, in a collection of its own that belongs to no version.

The versions' indexes are derived from it. In memory stand only the ids, in order, and the revisions that tell what has changed.
Methods that touch the collection block; callers run them off the event loop.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

from langptune.domain import Item
from services.decoder.documents import indexed_revision, revision
from services.decoder.index import Collection, Entry

_READ_BATCH = 1_000  # items


class Catalogue:
    """All items, by id."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._revisions = {item.item_id: revision(item) for item in self._all(list(collection.revisions()))}
        self._order = sorted(self._revisions)

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._revisions

    def revision(self, item_id: str) -> str | None:
        """The revision that is stored; None for an unknown item."""
        return self._revisions.get(item_id)

    def put(self, entries: Sequence[Entry]) -> None:
        """Add or replace items; what has returned survives a killed process."""
        self._collection.put(entries)
        self._revisions.update({entry.item.item_id: entry.revision for entry in entries})
        self._order = sorted(self._revisions)

    def flush(self) -> None:
        """Have all items survive a power failure, too."""
        self._collection.flush()

    def get(self, item_ids: Sequence[str]) -> list[Item]:
        """The known ones, in the order asked for."""
        return self._collection.get(item_ids)

    def page(self, after: str, size: int) -> tuple[list[Item], str]:
        """Up to `size` items in the order of their ids, past the id `after`; and the id to go on after, "" at the end."""
        order = self._order
        start = bisect_right(order, after) if after else 0
        chosen = order[start : start + size]
        more = start + size < len(order)
        return self.get(chosen), chosen[-1] if more else ""

    def stale(self, indexed: Mapping[str, str], recipe: str) -> list[str]:
        """Ids of the items that an index of these revisions lacks, or has otherwise, or embedded by another recipe."""
        current = list(self._revisions.items())
        return [item_id for item_id, now in current if indexed.get(item_id) != indexed_revision(now, recipe)]

    def close(self) -> None:
        """Release the files."""
        self._collection.close()

    def _all(self, item_ids: Sequence[str]) -> Iterator[Item]:
        for start in range(0, len(item_ids), _READ_BATCH):
            yield from self._collection.get(item_ids[start : start + _READ_BATCH])
