"""What a user never wants: how much items lose for being like it, which are left out, and exact ranks under both.

Embeddings do not understand negation, so a phrase is embedded as a wish ("They like clowns."); an item that fulfils the wish more
than most of the catalogue loses score. Nearness is measured against the catalogue's own spread, so the limits hold for
embedders of other scales. An item of a category that a phrase names is left out altogether.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from langptune.text import liking_text
from services.decoder.index import AnyOf, ItemFilter
from services.decoder.matrix import Matrix, TargetSet
from services.decoder.queries import QueryEmbedder

PENALTY = 2.0  # score lost per similarity to an avoided phrase beyond the threshold
THRESHOLD = 0.5  # standard deviations above the catalogue's mean similarity to the phrase: what is nearer is meant by it
_SAMPLE = 4_096  # items that the mean and deviation are taken from
_ROUNDING = 1e-3  # more than a float32 score can be off; scores as near as this to a target's are computed again in float64
_NEGATION = re.compile(r"^(?:no(?: more)?|not|never|without|avoid|nothing with)\s+", re.IGNORECASE)

FloatArray = NDArray[np.float32]


def without_categories(where: ItemFilter, avoid: Sequence[str]) -> ItemFilter:
    """`where`, less the items of a category that a phrase names: in its own words, in any usual case, singular or plural."""
    names = {
        name
        for phrase in (_NEGATION.sub("", phrase).strip() for phrase in avoid)
        for number in (phrase, phrase.removesuffix("s"), f"{phrase}s")
        for name in (number, number.lower(), number.title(), number.capitalize(), number.upper())
    }
    return ItemFilter(where.all, (*where.none, AnyOf("categories", tuple(sorted(names))))) if names else where


def spread(matrix: Matrix, vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation [vectors] of the catalogue's similarities to each of `vectors` [vectors, dimensions]."""
    sample = matrix.rows(range(0, len(matrix), max(1, len(matrix) // _SAMPLE)))
    near = sample @ vectors.T  # [sample, vectors]
    return near.mean(axis=0), near.std(axis=0)


class Unwanted:
    """What items lose for being like avoided phrases."""

    def __init__(self, matrix: Matrix, wishes: FloatArray) -> None:
        self._matrix = matrix
        self._wishes = wishes  # [phrases, dimensions]
        if len(wishes):
            mean, deviation = spread(matrix, wishes)
            self._from = mean + THRESHOLD * deviation  # [phrases]

    @classmethod
    async def of(cls, avoid: Sequence[str], matrix: Matrix, queries: QueryEmbedder) -> Self:
        """That of phrases as users write them ("clowns", "no clowns")."""
        wishes = await queries.many([liking_text(_NEGATION.sub("", phrase)) for phrase in avoid])
        return cls(matrix, np.array([wish.vector for wish in wishes], dtype=np.float32))

    def penalties(self, item_ids: Sequence[str]) -> FloatArray:
        """[items], 0 or more; of several phrases the greatest counts."""
        lost: FloatArray = self._lost(rows(self._matrix, item_ids)).astype(np.float32)
        return lost

    def ranks(self, vector: FloatArray, wanted: TargetSet, ranked: NDArray[np.bool_] | None) -> list[int]:
        """Exact ranks of the targets by similarity to `vector` less penalties: 1 + the number of items with a greater score.

        As `Matrix.ranks`: float64 decides, equal scores stand behind the target. Only items of the mask `ranked` [items] count.
        """
        targets = self._scores(self._matrix.rows(wanted.targets).astype(np.float64), vector)
        hidden = np.zeros(len(self._matrix), dtype=np.bool_) if ranked is None else ~ranked
        hidden[list(wanted.excluded)] = True
        ranks = [1] * len(targets)
        for start, block in self._matrix.slabs():
            scores = self._scores(block, vector)
            scores[hidden[start : start + len(block)]] = -np.inf
            for place, target in enumerate(targets):
                near = np.flatnonzero(np.abs(scores - target) <= _ROUNDING)
                exact = self._scores(block[near].astype(np.float64), vector)
                ranks[place] += int(np.count_nonzero(scores > target + _ROUNDING)) + int(np.count_nonzero(exact > target))
        return ranks

    def _scores(self, vectors: NDArray[np.floating], vector: FloatArray) -> NDArray[np.floating]:
        """[items] of `vectors` [items, dimensions], in their number format; float64 gives a row the same number anywhere."""
        return _product(vectors, vector[None])[:, 0] - self._lost(vectors)

    def _lost(self, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        if not len(self._wishes) or not len(vectors):
            return np.zeros(len(vectors), dtype=vectors.dtype)
        beyond = _product(vectors, self._wishes) - self._from
        lost: NDArray[np.floating] = PENALTY * np.maximum(beyond, 0.0).max(axis=1)
        return lost


def _product(vectors: NDArray[np.floating], others: FloatArray) -> NDArray[np.floating]:
    """Similarities [vectors, others]; a sum per pair in float64, whose order no other row can change."""
    if vectors.dtype == np.float32:
        return vectors @ others.T
    return np.stack([(vectors * other.astype(np.float64)).sum(axis=1) for other in others], axis=1)


def rows(matrix: Matrix, item_ids: Sequence[str]) -> FloatArray:
    """Vectors [items, dimensions] in float32; zeros for an item that came between index and matrix."""
    positions = [matrix.position(item_id) for item_id in item_ids]
    found = matrix.rows([at or 0 for at in positions])
    found[[at is None for at in positions]] = 0.0
    return found
