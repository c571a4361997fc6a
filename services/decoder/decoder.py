"""The decoder's questions and answers in plain values: store items, rank, rank targets. Names no transport, engine or model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from langptune.domain import Item
from langptune.errors import FailedPrecondition, InvalidArgument, LangPTuneError
from langptune.ranking import RankingQuality, ranking_quality
from services.decoder.catalogue import Catalogue
from services.decoder.documents import revision
from services.decoder.index import Entry, Hit
from services.decoder.matrix import Matrix, TargetSet
from services.decoder.resident import ResidentVersion
from services.decoder.versions import VersionPool
from services.decoder.worker import Embedded


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best items for one text."""

    hits: list[Hit]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Query:
    """One question about targets."""

    text: str
    target_item_ids: Sequence[str]
    exclude_item_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class TargetRanks:
    """Where the targets of one query stand."""

    ranks: list[int]
    quality: RankingQuality
    truncated: bool


class Decoder:
    """Catalogue and versions together."""

    def __init__(self, catalogue: Catalogue, versions: VersionPool) -> None:
        self.catalogue = catalogue
        self.versions = versions
        self._storing: set[asyncio.Task[int]] = set()

    async def store(self, items: Iterable[Item]) -> int:
        """Add or replace items, in the catalogue and in every resident version; how many were new or changed.

        Of two items with one id the later counts. A caller that leaves does not interrupt it.
        """
        task = asyncio.create_task(self._store(items))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)
        return await asyncio.shield(task)

    async def flush(self) -> None:
        """Have what was stored survive a power failure, too."""
        with self.versions.use_all() as resident:
            for flush in [self.catalogue.flush, *(version.index.flush for version in resident)]:
                await asyncio.to_thread(flush)

    async def rank(self, version: str, text: str, k: int, exclude: Sequence[str]) -> Ranking:
        """The k best items outside `exclude`; equal scores in the order of their ids. Raises FailedPrecondition for no items."""
        self._require_items()
        async with self.versions.use(version) as found:
            query = await found.queries.one(text)
            hidden = {item_id for item_id in exclude if item_id in self.catalogue}
            return Ranking(await asyncio.to_thread(found.index.search, query.vector, k, hidden), query.truncated)

    async def rank_targets(self, version: str, queries: Sequence[Query], cutoff: int | None) -> tuple[list[TargetRanks], int]:
        """Exact ranks of each query's targets among all items, and how many items that were.

        Raises InvalidArgument for a target that is unknown or excluded, FailedPrecondition for no items.
        """
        self._require_items()
        async with self.versions.use(version) as found:
            matrix = found.matrix
            wanted = [_targets(matrix, query, at) for at, query in enumerate(queries)]
            embedded = await found.queries.many([query.text for query in queries])
            return await asyncio.to_thread(_ranks, matrix, wanted, embedded, cutoff), len(matrix)

    async def close(self) -> None:
        """Finish what is being stored, then close everything."""
        await asyncio.gather(*self._storing, return_exceptions=True)
        await self.versions.close()
        await asyncio.to_thread(self.catalogue.close)

    async def _store(self, items: Iterable[Item]) -> int:
        async with self.versions.writes:
            changed = {item.item_id: item for item in items}
            changed = {at: item for at, item in changed.items() if self.catalogue.revision(at) != revision(item)}
            if not changed:
                return 0
            with self.versions.use_all() as resident:
                embedded = [await version.embed(list(changed.values())) for version in resident]
                await asyncio.to_thread(self.catalogue.put, [Entry(item, revision(item)) for item in changed.values()])
                for version, entries in zip(resident, embedded, strict=True):
                    await self._apply(version, entries)
            return len(changed)

    async def _apply(self, version: ResidentVersion, entries: list[Entry]) -> None:
        """The catalogue is ahead by now: a version that cannot follow leaves memory, and catches up when it is loaded."""
        try:
            await asyncio.to_thread(version.apply, entries)
        except LangPTuneError:
            self.versions.retire(version)

    def _require_items(self) -> None:
        if not len(self.catalogue):
            raise FailedPrecondition("the catalogue is empty; import items first", reason="CATALOGUE_EMPTY")


def _targets(matrix: Matrix, query: Query, at: int) -> TargetSet:
    """Raises InvalidArgument naming the place of the first bad target."""
    excluded = set(query.exclude_item_ids)
    seen: set[str] = set()
    positions: list[int] = []
    for place, item_id in enumerate(query.target_item_ids):
        position = matrix.position(item_id)
        field = f"queries[{at}].target_item_ids[{place}]"
        if position is None:
            raise InvalidArgument(field, f"the catalogue has no item {item_id!r}")
        if item_id in excluded:
            raise InvalidArgument(field, f"{item_id!r} is excluded from the ranking")
        if item_id in seen:
            raise InvalidArgument(field, f"{item_id!r} is named twice")
        seen.add(item_id)
        positions.append(position)
    return TargetSet(positions, matrix.positions(sorted(excluded)))


def _ranks(matrix: Matrix, wanted: Sequence[TargetSet], embedded: Sequence[Embedded], cutoff: int | None) -> list[TargetRanks]:
    vectors = np.array([query.vector for query in embedded], dtype=np.float32)  # [queries, dimensions]
    return [
        TargetRanks(ranks, ranking_quality(ranks, cutoff), query.truncated)
        for ranks, query in zip(matrix.ranks(vectors, wanted), embedded, strict=True)
    ]
