"""The decoder's questions and answers in plain values: rank, explain, rank targets. Names no transport, engine or model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from langptune.domain import Interaction
from langptune.errors import FailedPrecondition, InvalidArgument
from langptune.ranking import RankingQuality, ranking_quality
from services.decoder.catalogue import Catalogue
from services.decoder.evidence import nearness
from services.decoder.explain import Explanations, explain
from services.decoder.index import EVERYTHING, ItemFilter
from services.decoder.items import ItemStore
from services.decoder.matrix import Matrix, TargetSet
from services.decoder.queries import QueryEmbedder
from services.decoder.ranking import Ranking, RankQuery, embed_query, rank
from services.decoder.resident import ResidentVersion
from services.decoder.unwanted import Unwanted, without_categories
from services.decoder.versions import VersionPool
from services.decoder.worker import Embedded


@dataclass(frozen=True, slots=True)
class Query:
    """One question about targets."""

    text: str
    target_item_ids: Sequence[str]
    exclude_item_ids: Sequence[str] = ()
    history: Sequence[Interaction] = ()
    avoid: Sequence[str] = ()  # as in RankQuery


@dataclass(frozen=True, slots=True)
class TargetRanks:
    """Where the targets of one query stand."""

    ranks: list[int]
    quality: RankingQuality
    coverage: float  # share of the query's tokens that was read


class Decoder:
    """Catalogue and versions together."""

    def __init__(self, catalogue: Catalogue, versions: VersionPool, *, refuse_long: bool = False) -> None:
        self._refuse_long = refuse_long  # texts over the embedder's limit, rather than read what fits
        self.catalogue = catalogue
        self.versions = versions
        self.items = ItemStore(catalogue, versions)

    async def rank(self, version: str, query: RankQuery) -> Ranking:
        """One page of the ranking for a text, a history, or both.

        Raises FailedPrecondition for no items, InvalidArgument for a text over the limit where the settings refuse those.
        """
        self._require_items()
        async with self.versions.use(version) as found:
            embedded = await embed_query(found.queries, query.text, query.history)
            self._require_whole(embedded)
            known = replace(query, exclude=[item_id for item_id in query.exclude if item_id in self.catalogue])
            return await rank(known, embedded, found.index, found.matrix, found.queries)

    async def explain(self, version: str, text: str, item_ids: Sequence[str]) -> Explanations:
        """What each sentence of `text` does for the place of each item. Raises as `rank`, and NotFound for an unknown item."""
        self._require_items()
        async with self.versions.use(version) as found:
            return await explain(text, item_ids, found.matrix, found.queries)

    async def rank_targets(
        self, version: str, queries: Sequence[Query], cutoff: int | None, where: ItemFilter = EVERYTHING
    ) -> tuple[list[TargetRanks], int]:
        """Exact ranks of each query's targets among the items that `where` passes, and how many items those are.

        Raises InvalidArgument for a target that is unknown, excluded or filtered out, FailedPrecondition for no items.
        """
        self._require_items()
        async with self.versions.use(version) as found:
            matrix = found.matrix
            ranked = matrix.mask(await found.index.matching(where)) if where else None
            size = len(matrix) if ranked is None else int(ranked.sum())
            if any(query.avoid for query in queries):
                return [await _avoiding(found, where, query, at, cutoff) for at, query in enumerate(queries)], size
            wanted = [_targets(matrix, ranked, query, at) for at, query in enumerate(queries)]
            embedded = await _embed_all(found.queries, queries)
            return await asyncio.to_thread(_ranks, matrix, ranked, wanted, embedded, cutoff), size

    async def select(
        self, item_ids: Sequence[str], version: str, where: ItemFilter = EVERYTHING, avoid: Sequence[str] = ()
    ) -> list[str]:
        """Those of `item_ids` that `where` passes and that are not like what is avoided.

        Without `version` only the categories that a phrase names are known.
        """
        where = without_categories(where, avoid)
        known = [item_id for item_id in item_ids if item_id in self.catalogue]
        if where and known:
            passed = set(await self.catalogue.matching(where))
            known = [item_id for item_id in known if item_id in passed]
        if not version or not avoid or not known:
            return known
        async with self.versions.use(version) as found:
            lost = (await Unwanted.of(avoid, found.matrix, found.queries)).penalties(known)
        return [item_id for item_id, less in zip(known, lost, strict=True) if less == 0]

    async def nearness(self, version: str, texts: Sequence[str], history: Sequence[Interaction]) -> NDArray[np.float32]:
        """How near each text is to each interaction [texts, interactions], in standard deviations. Raises as `rank`."""
        self._require_items()
        async with self.versions.use(version) as found:
            return await nearness(texts, history, found.matrix, found.queries)

    async def close(self) -> None:
        """Finish what is being stored, then close everything."""
        await self.items.drain()
        await self.versions.close()
        await self.catalogue.close()

    def _require_whole(self, embedded: Embedded) -> None:
        if self._refuse_long and embedded.truncated:
            raise InvalidArgument("text", f"is over the embedder's limit; only {embedded.coverage:.0%} of its tokens fit")

    def _require_items(self) -> None:
        if not len(self.catalogue):
            raise FailedPrecondition("the catalogue is empty; import items first", reason="CATALOGUE_EMPTY")


async def _embed_all(queries: QueryEmbedder, asked: Sequence[Query]) -> list[Embedded]:
    if not any(query.history for query in asked):
        return await queries.many([query.text for query in asked])
    return list(await asyncio.gather(*(embed_query(queries, query.text, query.history) for query in asked)))


async def _avoiding(found: ResidentVersion, where: ItemFilter, query: Query, at: int, cutoff: int | None) -> TargetRanks:
    """One query with phrases to avoid."""
    matrix, narrowed = found.matrix, without_categories(where, query.avoid)
    ranked = matrix.mask(await found.index.matching(narrowed)) if narrowed else None
    wanted = _targets(matrix, ranked, query, at)
    embedded = await embed_query(found.queries, query.text, query.history)
    unwanted = await Unwanted.of(query.avoid, matrix, found.queries)
    ranks = await asyncio.to_thread(unwanted.ranks, embedded.vector, wanted, ranked)
    return TargetRanks(ranks, ranking_quality(ranks, cutoff), embedded.coverage)


def _targets(matrix: Matrix, ranked: NDArray[np.bool_] | None, query: Query, at: int) -> TargetSet:
    """Raises InvalidArgument naming the place of the first bad target."""
    excluded = set(query.exclude_item_ids)
    seen: set[str] = set()
    positions: list[int] = []
    for place, item_id in enumerate(query.target_item_ids):
        position = matrix.position(item_id)
        field = f"queries[{at}].target_item_ids[{place}]"
        if position is None:
            raise InvalidArgument(field, f"the catalogue has no item {item_id!r}")
        if ranked is not None and not ranked[position]:
            raise InvalidArgument(field, f"the filter does not pass {item_id!r}")
        if item_id in excluded:
            raise InvalidArgument(field, f"{item_id!r} is excluded from the ranking")
        if item_id in seen:
            raise InvalidArgument(field, f"{item_id!r} is named twice")
        seen.add(item_id)
        positions.append(position)
    return TargetSet(positions, matrix.positions(sorted(excluded)))


def _ranks(
    matrix: Matrix,
    ranked: NDArray[np.bool_] | None,
    wanted: Sequence[TargetSet],
    embedded: Sequence[Embedded],
    cutoff: int | None,
) -> list[TargetRanks]:
    vectors = np.array([query.vector for query in embedded], dtype=np.float32)  # [queries, dimensions]
    return [
        TargetRanks(ranks, ranking_quality(ranks, cutoff), query.coverage)
        for ranks, query in zip(matrix.ranks(vectors, wanted, ranked), embedded, strict=True)
    ]
