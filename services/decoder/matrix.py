"""The vectors of all items in memory, and exact ranks by counting (Section 3.2.1).

Holds the very vectors that the index holds, as float32 or float16, in blocks. Immutable: a change makes a new matrix that shares
the blocks it leaves alone, so whoever ranks keeps the one it began with.

A rank is that of real arithmetic: an item counts when its similarity, summed in float64, is greater than the target's. Most
items are settled by a float32 product; those closer to the target than its rounding can reach are summed again in float64.
Tie rule: equal similarity stands behind the target, so copies of an item all have the rank of the first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32] | NDArray[np.float16]

_BLOCK = 1 << 24  # numbers of a matrix that are worked on at once: 64 MiB as float32
_QUERIES = 256  # queries that are worked on at once
_UNIT = 2.0**-24  # largest relative rounding error of float32


@dataclass(frozen=True, slots=True)
class TargetSet:
    """The targets of one query and what is left out of its ranking, as positions in the matrix."""

    targets: Sequence[int]
    excluded: Sequence[int]


class Matrix:
    """Item ids and their vectors, position by position."""

    def __init__(self, item_ids: Sequence[str], *blocks: Vectors) -> None:
        self.item_ids = list(item_ids)
        self._blocks = [block for block in blocks if len(block)]  # each [items, dimensions], in the order of the ids
        self._starts = [0, *np.cumsum([len(block) for block in self._blocks]).tolist()]  # of each block, and the end
        self._positions = {item_id: at for at, item_id in enumerate(self.item_ids)}

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def dimensions(self) -> int:
        """Length of the vectors; 0 while there are none."""
        return self._blocks[0].shape[1] if self._blocks else 0

    @property
    def nbytes(self) -> int:
        """Memory that the vectors take."""
        return sum(block.nbytes for block in self._blocks)

    def position(self, item_id: str) -> int | None:
        """Where an item stands; None for one that is not here."""
        return self._positions.get(item_id)

    def positions(self, item_ids: Sequence[str]) -> list[int]:
        """Where items stand; those that are not here are left out."""
        return [self._positions[item_id] for item_id in item_ids if item_id in self._positions]

    def rows(self, positions: Sequence[int]) -> NDArray[np.float32]:
        """The vectors of these items: [positions, dimensions]."""
        places = np.asarray(positions, dtype=np.int64)
        found = np.zeros((len(places), self.dimensions), dtype=np.float32)
        of_block = np.searchsorted(self._starts, places, side="right") - 1
        for number in np.unique(of_block):
            chosen = of_block == number
            found[chosen] = self._blocks[number][places[chosen] - self._starts[number]]
        return found

    def with_rows(self, item_ids: Sequence[str], vectors: Vectors) -> Matrix:
        """A matrix with these distinct items added or replaced; copies only the blocks that change."""
        places = [self._positions.get(item_id, -1) for item_id in item_ids]
        known = {place: at for at, place in enumerate(places) if place >= 0}
        fresh = [at for at, place in enumerate(places) if place < 0]
        blocks = [self._replaced(number, known, vectors) for number in range(len(self._blocks))]
        if fresh and blocks and blocks[-1].size < _BLOCK:
            blocks[-1] = np.concatenate([blocks[-1], vectors[fresh].astype(blocks[-1].dtype)])
        elif fresh:
            blocks.append(vectors[fresh])
        return Matrix(self.item_ids + [item_ids[at] for at in fresh], *blocks)

    def without(self, item_ids: Collection[str]) -> Matrix:
        """A matrix that lacks these items."""
        kept = ~self.mask(item_ids)
        blocks = [
            block if kept[start:end].all() else block[kept[start:end]]
            for block, (start, end) in zip(self._blocks, pairwise(self._starts), strict=True)
        ]
        return Matrix([item_id for item_id in self.item_ids if item_id not in item_ids], *blocks)

    def mask(self, item_ids: Iterable[str]) -> NDArray[np.bool_]:
        """[items], true for those named."""
        chosen = np.zeros(len(self), dtype=np.bool_)
        chosen[[self._positions[item_id] for item_id in item_ids if item_id in self._positions]] = True
        return chosen

    def ranks(
        self, queries: NDArray[np.float32], wanted: Sequence[TargetSet], ranked: NDArray[np.bool_] | None = None
    ) -> list[list[int]]:
        """Per query [queries, dimensions] the exact ranks of its targets: `rank = 1 + #{i : sim_i > sim_target}`.

        Only items that the query does not exclude count, and only those of the mask `ranked` [items], if it is given. Beside the
        matrix itself it needs about 150 MiB, whatever the numbers of items and queries.
        """
        ranks: list[list[int]] = []
        for start in range(0, len(wanted), _QUERIES):
            part = slice(start, start + _QUERIES)
            ranks += self._ranks(queries[part], wanted[part], ranked)
        return ranks

    def _ranks(
        self, queries: NDArray[np.float32], wanted: Sequence[TargetSet], ranked: NDArray[np.bool_] | None
    ) -> list[list[int]]:
        targets = [self._similarities(sets.targets, query) for sets, query in zip(wanted, queries, strict=True)]
        hidden = [np.sort(np.array(sets.excluded, dtype=np.int64)) for sets in wanted]
        ranks = [[1] * len(sets.targets) for sets in wanted]
        for start, block in self.slabs():
            end = start + len(block)
            similarities = queries @ block.T  # [queries, items of the slab]
            slack = _reach(block, queries)
            if ranked is not None:
                similarities[:, ~ranked[start:end]] = -np.inf
            for at, (row, query) in enumerate(zip(similarities, queries, strict=True)):
                low, high = np.searchsorted(hidden[at], [start, end])
                row[hidden[at][low:high] - start] = -np.inf
                for place, target in enumerate(targets[at]):
                    ranks[at][place] += _above(row, target, slack[at], block, query)
        return ranks

    def _similarities(self, positions: Sequence[int], query: NDArray[np.float32]) -> NDArray[np.float64]:
        return _exact(self.rows(positions), query)

    def slabs(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The matrix in order, as float32, in runs of at most `_BLOCK` numbers; each with the position of its first row."""
        for block, first in zip(self._blocks, self._starts, strict=False):
            step = max(1, _BLOCK // max(1, block.shape[1]))
            for start in range(0, len(block), step):
                yield first + start, block[start : start + step].astype(np.float32, copy=False)

    def _replaced(self, number: int, known: dict[int, int], vectors: Vectors) -> Vectors:
        start, end = self._starts[number], self._starts[number + 1]
        inside = [place for place in known if start <= place < end]
        if not inside:
            return self._blocks[number]
        changed = self._blocks[number].copy()
        changed[[place - start for place in inside]] = vectors[[known[place] for place in inside]]
        return changed


def joined(blocks: list[Vectors]) -> list[Vectors]:
    """The blocks with the last two made one, if that is of a size to be worked on at once: many small blocks are slow.

    Applied after every block it copies a number at most log2(blocks) times.
    """
    while len(blocks) > 1 and len(blocks[-2]) <= len(blocks[-1]) and blocks[-2].size + blocks[-1].size <= _BLOCK:
        blocks = [*blocks[:-2], np.concatenate([blocks[-2], blocks[-1].astype(blocks[-2].dtype, copy=False)])]
    return blocks


def _exact(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """Similarities [rows] of `rows` [rows, dimensions] and `query`; the same numbers for the same row, wherever it stands."""
    similarities: NDArray[np.float64] = (rows.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    return similarities


def _reach(block: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float64]:
    """Per query, more than a float32 product with a row of `block` can be off: |fl(x.y) - x.y| <= n u |x||y| / (1 - n u).

    Higham, Accuracy and Stability of Numerical Algorithms, equation 3.5, whatever the order of the sum; six further terms stand
    for the rounding of the bound itself, and of the threshold.
    """
    terms = (block.shape[1] + 6) * _UNIT
    longest = float(np.sqrt(np.einsum("ij,ij->i", block, block).max(initial=0.0)))
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    reach: NDArray[np.float64] = terms / (1 - terms) * longest * 1.001 * lengths
    return reach


def _above(row: NDArray[np.float32], target: float, slack: float, block: NDArray[np.float32], query: NDArray[np.float32]) -> int:
    """Number of items of `block` whose exact similarity is above `target`; `row` has the float32 similarities."""
    surely = int(np.count_nonzero(row > np.float32(target + slack)))
    perhaps = row > np.float32(target - slack)
    if int(np.count_nonzero(perhaps)) == surely:
        return surely
    near = np.flatnonzero(perhaps & (row <= np.float32(target + slack)))
    return surely + int(np.count_nonzero(_exact(block[near], query) > target))
