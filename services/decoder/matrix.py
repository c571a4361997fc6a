"""The vectors of all items in memory, and exact ranks by counting (Section 3.2.1).

Holds the very vectors that the index holds, as float32 or float16, in blocks. Immutable: a change makes a new matrix that shares
what it leaves alone, so whoever ranks keeps the one it began with, and a write costs the same in a catalogue of any size.

A rank is that of real arithmetic: an item counts when its similarity, summed in float64, is greater than the target's. Most
items are settled by a float32 product; those closer to the target than its rounding can reach are summed again in float64.
Tie rule: equal similarity stands behind the target, so copies of an item all have the rank of the first. The product is made and
counted in runs of items that stay in the processor's cache, so ranks cost little more than the product.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32] | NDArray[np.float16]

_BLOCK = 1 << 22  # numbers of a stored block that others were joined to: 16 MiB as float32
_SLAB = 1 << 21  # numbers of a matrix that are worked on at once: 8 MiB as float32
_QUERIES = 256  # queries that are worked on at once
_PAIRS = 64  # items and queries whose similarities are summed in float64 at once
_UNIT = 2.0**-24  # largest relative rounding error of float32


@dataclass(frozen=True, slots=True)
class TargetSet:
    """The targets of one query and what is left out of its ranking, as positions in the matrix."""

    targets: Sequence[int]
    excluded: Sequence[int]


class _Names:
    """Item ids by position. Matrices that grew out of one another share it; each looks at those below its own length."""

    def __init__(self, item_ids: Iterable[str]) -> None:
        self.ids = list(item_ids)
        self.positions = {item_id: at for at, item_id in enumerate(self.ids)}

    def followed_by(self, size: int, item_ids: Sequence[str]) -> _Names:
        """The first `size` and then these, distinct and new: itself grown, or a copy if it has grown already."""
        grown = self if len(self.ids) == size else _Names(self.ids[:size])
        grown.positions.update(zip(item_ids, range(size, size + len(item_ids)), strict=True))
        grown.ids += item_ids
        return grown


class Matrix:
    """Item ids and their vectors, position by position."""

    def __init__(self, item_ids: Sequence[str] | _Names, *blocks: Vectors) -> None:
        self._names = item_ids if isinstance(item_ids, _Names) else _Names(item_ids)
        self._blocks = [block for block in blocks if len(block)]  # each [items, dimensions], in the order of the ids
        self._starts: list[int] = [0, *np.cumsum([len(block) for block in self._blocks]).tolist()]  # of each block, and the end

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def item_ids(self) -> list[str]:
        """The ids in the order of their positions."""
        return self._names.ids[: len(self)]

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
        at = self._names.positions.get(item_id)
        return at if at is not None and at < len(self) else None

    def positions(self, item_ids: Iterable[str]) -> list[int]:
        """Where items stand; those that are not here are left out."""
        return [at for at in map(self.position, item_ids) if at is not None]

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
        places = [self.position(item_id) for item_id in item_ids]
        known = {place: at for at, place in enumerate(places) if place is not None}
        fresh = [at for at, place in enumerate(places) if place is None]
        blocks = [self._replaced(number, known, vectors) for number in range(len(self._blocks))]
        if fresh:
            blocks = joined([*blocks, vectors[fresh]])
        return Matrix(self._names.followed_by(len(self), [item_ids[at] for at in fresh]), *blocks)

    def without(self, item_ids: Collection[str]) -> Matrix:
        """A matrix that lacks these items."""
        kept = ~self.mask(item_ids)
        blocks = [
            block if kept[start:end].all() else block[kept[start:end]]
            for block, (start, end) in zip(self._blocks, pairwise(self._starts), strict=True)
        ]
        return Matrix([item_id for item_id, keep in zip(self.item_ids, kept, strict=True) if keep], *blocks)

    def mask(self, item_ids: Iterable[str]) -> NDArray[np.bool_]:
        """[items], true for those named."""
        chosen = np.zeros(len(self), dtype=np.bool_)
        chosen[self.positions(item_ids)] = True
        return chosen

    def ranks(
        self, queries: NDArray[np.float32], wanted: Sequence[TargetSet], ranked: NDArray[np.bool_] | None = None
    ) -> list[list[int]]:
        """Per query [queries, dimensions] the exact ranks of its targets: `rank = 1 + #{i : sim_i > sim_target}`.

        Only items that the query does not exclude count, and only those of the mask `ranked` [items], if it is given. Beside the
        matrix itself it needs about 20 MiB, whatever the numbers of items and queries.
        """
        ranks: list[list[int]] = []
        for start in range(0, len(wanted), _QUERIES):
            part = slice(start, start + _QUERIES)
            ranks += self._ranks(queries[part], wanted[part], ranked)
        return ranks

    def _ranks(
        self, queries: NDArray[np.float32], wanted: Sequence[TargetSet], ranked: NDArray[np.bool_] | None
    ) -> list[list[int]]:
        rounds = self._rounds(queries, wanted)
        hidden = _Hidden.of(wanted)
        room = np.empty((self._slab_rows, len(queries)), dtype=np.float32)
        for start, slab in self.slabs():
            similarities = np.matmul(slab, queries.T, out=room[: len(slab)])  # [items of the slab, queries]
            if ranked is not None:
                similarities[~ranked[start : start + len(slab)]] = -np.inf
            hidden.hide(similarities, start)
            for each in rounds:
                each.count(similarities, slab, queries)
        found = [iter(each.ranks.tolist()) for each in rounds]
        return [[next(found[place]) for place in range(len(sets.targets))] for sets in wanted]

    def _rounds(self, queries: NDArray[np.float32], wanted: Sequence[TargetSet]) -> list[_Round]:
        slack = _reach(queries, self._longest)
        rounds = []
        for place in range(max(len(sets.targets) for sets in wanted)):
            asking = np.array([at for at, sets in enumerate(wanted) if len(sets.targets) > place])
            rows = self.rows([wanted[at].targets[place] for at in asking])
            rounds.append(_Round(asking, _exact(rows, queries[asking]), slack[asking]))
        return rounds

    @cached_property
    def _longest(self) -> float:
        """Length of the longest vector."""
        return float(np.sqrt(max((np.einsum("ij,ij->i", slab, slab).max() for _, slab in self.slabs()), default=0.0)))

    @property
    def _slab_rows(self) -> int:
        return max(1, _SLAB // max(1, self.dimensions))

    def slabs(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The matrix in order, as float32, in runs of at most `_SLAB` numbers; each with the position of its first row."""
        for block, first in zip(self._blocks, self._starts, strict=False):
            for start in range(0, len(block), self._slab_rows):
                yield first + start, block[start : start + self._slab_rows].astype(np.float32, copy=False)

    def _replaced(self, number: int, known: dict[int, int], vectors: Vectors) -> Vectors:
        start, end = self._starts[number], self._starts[number + 1]
        inside = [place for place in known if start <= place < end]
        if not inside:
            return self._blocks[number]
        changed = self._blocks[number].copy()
        changed[[place - start for place in inside]] = vectors[[known[place] for place in inside]]
        return changed


@dataclass(frozen=True, slots=True)
class _Hidden:
    """What queries leave out of their rankings."""

    positions: NDArray[np.int64]  # of items, in order
    queries: NDArray[np.int64]  # which of the queries leaves out the item at the same place of `positions`

    @classmethod
    def of(cls, wanted: Sequence[TargetSet]) -> Self:
        positions = np.concatenate([np.asarray(sets.excluded, dtype=np.int64) for sets in wanted])
        queries = np.repeat(np.arange(len(wanted)), [len(sets.excluded) for sets in wanted])
        order = np.argsort(positions)
        return cls(positions[order], queries[order])

    def hide(self, similarities: NDArray[np.float32], start: int) -> None:
        """Put them behind all others in `similarities` [items from `start` on, queries]."""
        low, high = np.searchsorted(self.positions, [start, start + len(similarities)])
        similarities[self.positions[low:high] - start, self.queries[low:high]] = -np.inf


class _Round:
    """One target of each query that has so many: the items above it are counted slab by slab."""

    def __init__(self, asking: NDArray[np.int64], targets: NDArray[np.float64], slack: NDArray[np.float64]) -> None:
        """`asking`: the queries; the similarities of their targets; how far a float32 product can be off."""
        self.ranks = np.ones(len(asking), dtype=np.int64)
        self._asking = asking
        self._targets = targets
        self._low = (targets - slack).astype(np.float32)
        self._high = (targets + slack).astype(np.float32)

    def count(self, similarities: NDArray[np.float32], slab: NDArray[np.float32], queries: NDArray[np.float32]) -> None:
        """Add the items of `slab` whose exact similarity is above the target's; `similarities` [items, queries] has float32's."""
        seen = similarities if len(self._asking) == len(queries) else similarities[:, self._asking]
        surely, perhaps = seen > self._high, seen > self._low
        self.ranks += _true_in_columns(surely)
        items, at = np.divmod(np.flatnonzero(surely != perhaps), len(self._asking))
        for start in range(0, len(items), _PAIRS):
            some = at[start : start + _PAIRS]
            exact = _exact(slab[items[start : start + _PAIRS]], queries[self._asking[some]])
            np.add.at(self.ranks, some, exact > self._targets[some])


def joined(blocks: list[Vectors]) -> list[Vectors]:
    """The blocks with the last two made one, again and again, while the last is no smaller and one block holds both.

    Many small blocks are slow. Applied after every block it copies a number at most log2(blocks) times.
    """
    while len(blocks) > 1 and len(blocks[-2]) <= len(blocks[-1]) and blocks[-2].size + blocks[-1].size <= _BLOCK:
        blocks = [*blocks[:-2], np.concatenate([blocks[-2], blocks[-1].astype(blocks[-2].dtype, copy=False)])]
    return blocks


def _true_in_columns(marks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """`np.count_nonzero(marks, axis=0)` [columns] in a third of the time: added up as bytes, as many rows as a byte can count."""
    found = np.zeros(marks.shape[1], dtype=np.int64)
    for start in range(0, len(marks), 255):
        found += np.add.reduce(marks[start : start + 255].view(np.uint8), axis=0, dtype=np.uint8)
    return found


def _exact(rows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Similarities [rows] of two arrays, row by row [rows, dimensions]; the same number for the same two, wherever they stand."""
    similarities: NDArray[np.float64] = np.multiply(rows, others, dtype=np.float64).sum(axis=1)
    return similarities


def _reach(queries: NDArray[np.float32], longest: float) -> NDArray[np.float64]:
    """Per query, more than a float32 product with a row of length up to `longest` can be off.

    |fl(x.y) - x.y| <= n u |x||y| / (1 - n u): Higham, Accuracy and Stability of Numerical Algorithms, equation 3.5, whatever the
    order of the sum; six further terms stand for the rounding of the bound itself, and of the threshold.
    """
    terms = (queries.shape[1] + 6) * _UNIT
    lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
    reach: NDArray[np.float64] = terms / (1 - terms) * longest * 1.001 * lengths
    return reach
