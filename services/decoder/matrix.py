"""The vectors of all items as one float32 matrix in memory, and exact ranks by counting (Section 3.2.1).

Holds the very vectors that the index holds. Immutable: a change makes a new matrix, so whoever ranks keeps the one it began with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langptune.ranking import exact_ranks

_BLOCK = 1 << 24  # similarities that are in memory at once: 64 MiB


@dataclass(frozen=True, slots=True)
class TargetSet:
    """The targets of one query and what is left out of its ranking, as positions in the matrix."""

    targets: Sequence[int]
    excluded: Sequence[int]


class Matrix:
    """Item ids and their vectors, position by position."""

    def __init__(self, item_ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        self.item_ids = list(item_ids)
        self.vectors = vectors  # [items, dimensions]
        self._positions = {item_id: at for at, item_id in enumerate(self.item_ids)}

    def __len__(self) -> int:
        return len(self.item_ids)

    def position(self, item_id: str) -> int | None:
        """Where an item stands; None for one that is not here."""
        return self._positions.get(item_id)

    def positions(self, item_ids: Sequence[str]) -> list[int]:
        """Where items stand; those that are not here are left out."""
        return [self._positions[item_id] for item_id in item_ids if item_id in self._positions]

    def with_rows(self, item_ids: Sequence[str], vectors: NDArray[np.float32]) -> Matrix:
        """A matrix with these distinct items added or replaced."""
        if not len(self):
            return Matrix(item_ids, vectors)
        known = [at for at, item_id in enumerate(item_ids) if item_id in self._positions]
        fresh = [at for at, item_id in enumerate(item_ids) if item_id not in self._positions]
        joined = np.concatenate([self.vectors, vectors[fresh]])
        joined[[self._positions[item_ids[at]] for at in known]] = vectors[known]
        return Matrix(self.item_ids + [item_ids[at] for at in fresh], joined)

    def without(self, item_ids: Collection[str]) -> Matrix:
        """A matrix that lacks these items."""
        left = [at for at, item_id in enumerate(self.item_ids) if item_id not in item_ids]
        return Matrix([self.item_ids[at] for at in left], self.vectors[left])

    def mask(self, item_ids: Iterable[str]) -> NDArray[np.bool_]:
        """[items], true for those named."""
        chosen = np.zeros(len(self), dtype=np.bool_)
        chosen[[self._positions[item_id] for item_id in item_ids if item_id in self._positions]] = True
        return chosen

    def ranks(
        self, queries: NDArray[np.float32], wanted: Sequence[TargetSet], ranked: NDArray[np.bool_] | None = None
    ) -> list[list[int]]:
        """Per query [queries, dimensions] the exact ranks of its targets; `rank = 1 + #{i : sim_i > sim_target}`.

        Only the items of the mask `ranked` [items] count, if it is given.
        """
        rows = max(1, _BLOCK // max(1, len(self)))
        ranks: list[list[int]] = []
        for start in range(0, len(wanted), rows):
            similarities = queries[start : start + rows] @ self.vectors.T  # [rows, items]
            if ranked is not None:
                similarities[:, ~ranked] = -np.inf
            ranks += [
                exact_ranks(row, sets.targets, sets.excluded)
                for row, sets in zip(similarities, wanted[start : start + rows], strict=True)
            ]
        return ranks
