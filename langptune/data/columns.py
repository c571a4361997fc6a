"""Interactions as parallel integer and float arrays, and the steps that need nothing else: duplicates and the k-core.

32 bytes per interaction; texts are not here. `line` leads back to them, and breaks ties of equal times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Columns:
    """n interactions; users and items are codes from 0."""

    user: Ints  # [n]
    item: Ints  # [n]
    rating: npt.NDArray[np.float64]  # [n], stars
    time: Ints  # [n], milliseconds since 1970
    line: Ints  # [n], line of the review file

    @classmethod
    def empty(cls) -> Columns:
        """No interactions."""
        none = np.empty(0, dtype=np.int64)
        return cls(none.astype(np.int32), none.astype(np.int32), none.astype(np.float64), none, none)

    def __len__(self) -> int:
        return len(self.user)

    def at(self, where: Mask | Ints) -> Columns:
        """The interactions at a mask or at positions, in that order."""
        return Columns(self.user[where], self.item[where], self.rating[where], self.time[where], self.line[where])

    @property
    def user_count(self) -> int:
        """Users that have an interaction."""
        return int(np.count_nonzero(np.bincount(self.user)))

    @property
    def item_count(self) -> int:
        """Items that have an interaction."""
        return int(np.count_nonzero(np.bincount(self.item)))

    def by_user_and_time(self) -> Columns:
        """Users in the order of their codes, each user's interactions oldest first; equal times in file order."""
        return self.at(np.lexsort((self.line, self.time, self.user)))

    def user_spans(self) -> tuple[Ints, Ints]:
        """(start, count) of each user's rows. Columns must be sorted by user."""
        _, starts, counts = np.unique(self.user, return_index=True, return_counts=True)
        return starts, counts


def first_reviews(columns: Columns) -> Columns:
    """Keep each user's first review of an item, by time; the order of the rows stays."""
    order = np.lexsort((columns.line, columns.time, columns.item, columns.user))
    user, item = columns.user[order], columns.item[order]
    first = np.ones(len(columns), dtype=bool)
    first[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    return columns.at(np.sort(order[first]))


def k_core(columns: Columns, k: int) -> tuple[Columns, int]:
    """The largest subset in which every user and every item has at least k interactions, and the rounds it took."""
    rounds = 0
    while True:
        enough = (np.bincount(columns.user)[columns.user] >= k) & (np.bincount(columns.item)[columns.item] >= k)
        if enough.all():
            return columns, rounds
        columns, rounds = columns.at(enough), rounds + 1


def largest_core(columns: Columns, below: int) -> int:
    """The largest k < `below` whose k-core is not empty; 0 if there is none."""
    low, high = 0, min(below - 1, int(np.bincount(columns.user).max(initial=0)))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(k_core(columns, middle)[0]) else (low, middle - 1)
    return low
