"""The index port: collections of items with or without vectors, on whatever engine.

An engine raises typed errors only: ResourceExhausted when the disk is full, Unavailable for whatever else it fails at. What
filters may name is checked before they come here. Embedding is not here, nor which collection belongs to which version.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from langptune.domain import Item
from services.decoder.index.filter import EVERYTHING, ItemFilter

AnyT = TypeVar("AnyT")


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of a collection."""

    item: Item
    revision: str  # of the content that is stored and embedded
    vector: NDArray[np.float32] | None = None  # [dimensions], length 1; None in a collection without vectors


@dataclass(frozen=True, slots=True)
class Search:
    """A question: the items nearest to a vector, from place `offset` (0 is the best) on."""

    vector: NDArray[np.float32]  # [dimensions]
    limit: int
    offset: int = 0
    where: ItemFilter = EVERYTHING
    exclude: Set[str] = frozenset()  # item ids
    exact: bool = True  # False: through the approximate graph, where the collection has one
    with_vectors: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result."""

    item: Item
    score: float  # dot product with the query
    vector: NDArray[np.float32] | None = None  # [dimensions], when the search asked for it


class Collection(Protocol):
    """Items by id. Safe to read while it is written to; written to by one task at a time."""

    async def put(self, entries: Sequence[Entry]) -> None:
        """Add or replace; what has returned survives a killed process."""

    async def delete(self, item_ids: Sequence[str]) -> None:
        """Remove; unknown ids are ignored. As durable as `put`."""

    async def flush(self) -> None:
        """Have all that was written survive a power failure, too."""

    async def get(self, item_ids: Sequence[str]) -> list[Item]:
        """The known ones, in the order asked for."""

    async def search(self, search: Search) -> list[Hit]:
        """Best first, equal scores in the order of their ids; fewer than `limit` when there are no more."""

    async def matching(self, where: ItemFilter) -> list[str]:
        """Ids of all items that pass, in the order of their points."""

    async def revisions(self) -> dict[str, str]:
        """Item id to revision, for all items, in the order of their points."""

    def vectors(self) -> AsyncIterator[tuple[list[str], NDArray[np.float32]]]:
        """All item ids and their vectors [items, dimensions], block by block, in the order of their points."""

    async def count(self) -> int:
        """Number of items."""

    async def unindexed(self) -> int:
        """Number of items that wait for `optimise`; 0 in a collection without a graph."""

    async def optimise(self) -> None:
        """Take all items into the graph of approximate search. The embedded engine stops its whole process meanwhile."""

    async def close(self) -> None:
        """Release it. Idempotent; nothing else may be called afterwards."""


class Engine(Protocol):
    """Opens collections by name."""

    async def open(self, name: str, dimensions: int) -> Collection:
        """The collection `name`, created when it is not there; 0 dimensions for one without vectors."""

    async def drop(self, name: str) -> None:
        """Delete a collection that is not open. Idempotent."""

    async def close(self) -> None:
        """Release the engine; all collections are closed before."""


async def in_stable_order(fetch: Callable[[int], Awaitable[list[Hit]]], search: Search) -> list[Hit]:
    """Places offset..offset+limit of `fetch(n)` (the n best, equal scores in any order), equal scores in the order of their ids.

    Fetches further for as long as the cut falls between equal scores, so that the cut, and with it every page, is stable.
    """
    end = search.offset + search.limit
    size = end + 1
    while True:
        hits = await fetch(size)
        if len(hits) < size or hits[-1].score < hits[end - 1].score:
            return sorted(hits, key=lambda hit: (-hit.score, hit.item.item_id))[search.offset : end]
        size *= 2


def batches(entries: Sequence[AnyT], size: int) -> Iterator[Sequence[AnyT]]:
    """`entries` in runs of `size`."""
    for start in range(0, len(entries), size):
        yield entries[start : start + size]
