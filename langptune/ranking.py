"""Ranking quality from exact ranks: NDCG, recall and MRR with binary relevance (Section 4.1 of the paper).

The whole input is where the targets stand; how they were ranked is not known here. `rank = 1 + #{i : sim_i > sim_target}`,
items of the history left out, so a tie is settled in the target's favour and no sort is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RankingQuality:
    """The metrics of one ranking; each 0.0 to 1.0."""

    ndcg: float
    recall: float
    mrr: float


def ranking_quality(ranks: Sequence[int], cutoff: int | None = None) -> RankingQuality:
    """Metrics of one ranking whose targets stand at `ranks` (from 1); only places up to `cutoff` count, None for all.

    Two targets with equal similarity may share a rank; each then counts at the place it would have after the other.
    Raises ValueError for no ranks or a rank below 1.
    """
    places = _distinct_places(ranks)
    limit = cutoff if cutoff is not None else max(places)
    within = [place for place in places if place <= limit]
    gain = sum(1.0 / math.log2(1 + place) for place in within)
    ideal = sum(1.0 / math.log2(1 + place) for place in range(1, min(len(places), limit) + 1))
    return RankingQuality(
        ndcg=gain / ideal,
        recall=len(within) / len(places),
        mrr=1.0 / within[0] if within else 0.0,
    )


def exact_ranks(
    similarities: NDArray[np.floating],  # [items]
    targets: Sequence[int],  # positions of the targets
    excluded: Sequence[int] = (),  # positions that are not ranked
) -> list[int]:
    """1 + the number of items above each target, by counting. Raises ValueError when a target is excluded."""
    if set(targets) & set(excluded):
        raise ValueError("a target cannot be excluded")
    left_out = similarities[np.unique(np.asarray(excluded, dtype=np.intp))]
    wanted = similarities[np.asarray(targets, dtype=np.intp)]
    return [1 + int(np.count_nonzero(similarities > own) - np.count_nonzero(left_out > own)) for own in wanted]


def _distinct_places(ranks: Sequence[int]) -> list[int]:
    if not ranks or min(ranks) < 1:
        raise ValueError("ranks must be one or more numbers from 1")
    places: list[int] = []
    for rank in sorted(ranks):
        places.append(max(rank, places[-1] + 1) if places else rank)
    return places
