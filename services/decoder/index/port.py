"""The index port: collections of items with or without vectors, searched exactly.

All methods block; callers run them off the event loop. An engine raises typed errors only: ResourceExhausted when the disk is
full, Unavailable for whatever else it fails at. Filters, and approximate search, are not here yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from langptune.domain import Item


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of a collection."""

    item: Item
    revision: str  # of the content that is stored and embedded
    vector: NDArray[np.float32] | None = None  # [dimensions], length 1; None in a collection without vectors


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result."""

    item: Item
    score: float  # dot product with the query


class Collection(Protocol):
    """Items by id. Safe to search while it is written to; written to by one thread at a time."""

    def put(self, entries: Sequence[Entry]) -> None:
        """Add or replace; what has returned survives a killed process."""

    def flush(self) -> None:
        """Have all that was put survive a power failure, too."""

    def get(self, item_ids: Sequence[str]) -> list[Item]:
        """The known ones, in the order asked for."""

    def search(self, query: NDArray[np.float32], limit: int, exclude: Set[str]) -> list[Hit]:
        """The `limit` best items outside `exclude`, exactly; best first, equal scores in the order of their ids."""

    def revisions(self) -> dict[str, str]:
        """Item id to revision, for all items."""

    def vectors(self) -> tuple[list[str], NDArray[np.float32]]:
        """All item ids, and their vectors [items, dimensions] in the same order."""

    def count(self) -> int:
        """Number of items."""

    def close(self) -> None:
        """Release the files. Idempotent; nothing else may be called afterwards."""


class Engine(Protocol):
    """Opens collections by name."""

    def open(self, name: str, dimensions: int) -> Collection:
        """The collection `name`, created when it is not there; 0 dimensions for one without vectors."""

    def drop(self, name: str) -> None:
        """Delete a collection that is not open. Idempotent."""

    def close(self) -> None:
        """Let another process take over; all collections are closed before."""


def in_stable_order(fetch: Callable[[int], list[Hit]], limit: int) -> list[Hit]:
    """The `limit` best of `fetch(n)` (the n best, equal scores in any order), equal scores in the order of their ids.

    Fetches further for as long as the cut falls between equal scores, so that the cut is stable as well.
    """
    size = limit + 1
    while True:
        hits = fetch(size)
        if len(hits) < size or hits[-1].score < hits[limit - 1].score:
            return sorted(hits, key=lambda hit: (-hit.score, hit.item.item_id))[:limit]
        size *= 2


def batches(entries: Sequence[Entry], size: int) -> Iterator[Sequence[Entry]]:
    """`entries` in runs of `size`."""
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
