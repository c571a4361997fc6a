"""The ranking for a person: a vector from profile and history, what is unwanted pushed down, variety if asked for, by pages.

What to avoid never enters the query (services/decoder/unwanted.py). All of it is exact with respect to what the index answers,
page by page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from langptune.domain import Interaction
from services.decoder.index import EVERYTHING, Collection, Hit, ItemFilter, Search
from services.decoder.matrix import Matrix
from services.decoder.queries import QueryEmbedder
from services.decoder.unwanted import Unwanted, rows, without_categories
from services.decoder.worker import Embedded

DIVERSE = 200  # best items that diversity puts in another order; the rest follow as they are
_POOL = 500  # items that are looked through for what is left after the penalty; four times as many when they are not enough
_MAX_POOL = 20_000
_GRAPH_PLACES = 500  # fewer than a graph search looks at (graph_reach), so its pages are of one search; beyond, a full scan


@dataclass(frozen=True, slots=True)
class RankQuery:
    """What to rank by, and what may come out; `text` or `history` is given."""

    text: str = ""
    k: int = 10
    exclude: Sequence[str] = ()
    where: ItemFilter = EVERYTHING
    history: Sequence[Interaction] = ()
    avoid: Sequence[str] = ()  # phrases, positively worded: "clowns"
    diversity: float = 0.0  # 0.0 by score alone .. 1.0 by unlikeness to what stands above alone
    offset: int = 0  # places before the first that is returned


@dataclass(frozen=True, slots=True)
class Ranking:
    """Items by place, best first; a score is less what `avoid` took from it."""

    hits: list[Hit]
    coverage: float  # share of the tokens of text and history that was read
    more: bool  # whether further items follow

    @property
    def truncated(self) -> bool:
        """Whether text or history was over the embedder's limit."""
        return self.coverage < 1.0


async def embed_query(queries: QueryEmbedder, text: str, history: Sequence[Interaction]) -> Embedded:
    """One vector of length 1: that of the text, that of the history, or, of both, the direction half-way between them."""
    if not history:
        return await queries.one(text)
    written = await queries.history(history)
    if not text:
        return written
    profile = await queries.one(text)
    both = profile.vector + written.vector
    length = float(np.linalg.norm(both))
    if length < 1e-6:  # opposite directions have no middle
        return profile
    return Embedded(both / length, (profile.coverage + written.coverage) / 2)


async def rank(query: RankQuery, embedded: Embedded, index: Collection, matrix: Matrix, queries: QueryEmbedder) -> Ranking:
    """The places offset+1..offset+k of the ranking of all items that may come out, equal scores in the order of their ids."""
    where = without_categories(query.where, query.avoid)
    exclude = frozenset(query.exclude)
    if not query.avoid and not query.diversity:
        exact = query.offset + query.k >= _GRAPH_PLACES
        hits = await index.search(Search(embedded.vector, query.k + 1, query.offset, where, exclude, exact))
        return Ranking(hits[: query.k], embedded.coverage, len(hits) > query.k)
    unwanted = await Unwanted.of(query.avoid, matrix, queries)
    end = query.offset + query.k
    ordered = await _less_unwanted(index, Search(embedded.vector, 0, 0, where, exclude), unwanted, max(end + 1, DIVERSE))
    if query.diversity:
        ordered = diversify(ordered[:DIVERSE], matrix, query.diversity) + ordered[DIVERSE:]
    return Ranking(ordered[query.offset : end], embedded.coverage, len(ordered) > end)


async def _less_unwanted(index: Collection, search: Search, unwanted: Unwanted, needed: int) -> list[Hit]:
    """At least the first `needed` items by penalised score, if there are as many.

    No item outside the pool scores more than the pool's last, and penalties only lower: once `needed` items stand at or above
    that, they are exact. A pool of _MAX_POOL is taken as it is.
    """
    size = max(_POOL, 2 * needed)
    while True:
        pool = await index.search(Search(search.vector, size, 0, search.where, search.exclude))
        lost = unwanted.penalties([hit.item.item_id for hit in pool])
        scored = [Hit(hit.item, hit.score - float(less)) for hit, less in zip(pool, lost, strict=True)]
        scored.sort(key=lambda hit: (-hit.score, hit.item.item_id))
        if len(pool) < size or size >= _MAX_POOL or scored[needed - 1].score > pool[-1].score:
            return scored
        size = min(4 * size, _MAX_POOL)


def diversify(hits: Sequence[Hit], matrix: Matrix, diversity: float) -> list[Hit]:
    """Maximal marginal relevance (Carbonell and Goldstein, 1998) with lambda = 1 - diversity; ties keep their order."""
    if not hits:
        return []
    vectors = rows(matrix, [hit.item.item_id for hit in hits])  # [hits, dimensions]
    relevance = (1.0 - diversity) * np.array([hit.score for hit in hits])
    nearest = np.full(len(hits), -np.inf)  # similarity to the nearest item that stands above
    left = np.ones(len(hits), dtype=bool)
    order = [0]
    while len(order) < len(hits):
        left[order[-1]] = False
        nearest = np.maximum(nearest, vectors @ vectors[order[-1]])
        order.append(int(np.where(left, relevance - diversity * nearest, -np.inf).argmax()))
    return [hits[at] for at in order]
