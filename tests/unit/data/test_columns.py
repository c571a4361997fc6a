"""Duplicates and the k-core, by hand and as properties."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from langptune.data.columns import Columns, first_reviews, k_core, largest_core


def columns(rows: list[tuple[int, int, int]]) -> Columns:
    """(user, item, time) triples, in file order."""
    user, item, time = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Columns(user, item, np.full(len(rows), 3.5), time, np.arange(1, len(rows) + 1))


def pairs(of: Columns) -> list[tuple[int, int]]:
    return list(zip(of.user.tolist(), of.item.tolist(), strict=True))


interactions = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 3)), max_size=60)


def test_the_core_is_iterated_until_nothing_changes() -> None:
    """k = 2. Users 0 and 1 share items 0 and 1; user 2 has items 1, 2; user 3 has items 2, 3.

    Round 1: item 3 has one interaction: (3, 3) goes. Round 2: user 3 has only item 2 left: (3, 2) goes. Round 3: item 2 has only
    user 2 left: (2, 2) goes. Round 4: user 2 has only item 1 left: (2, 1) goes. Users 0 and 1 with items 0 and 1 remain.
    """
    core, rounds = k_core(columns([(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0), (2, 1, 0), (2, 2, 0), (3, 2, 0), (3, 3, 0)]), 2)
    assert pairs(core) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert rounds == 4


@given(interactions, st.integers(1, 5))
def test_every_user_and_item_of_a_core_has_k_interactions_and_the_core_is_the_largest(
    rows: list[tuple[int, int, int]], k: int
) -> None:
    core, _ = k_core(columns(rows), k)
    for codes in (core.user, core.item):
        assert all(n >= k for n in np.unique(codes, return_counts=True)[1])
    left = list(rows)  # the same by removing one interaction at a time
    while weak := [row for row in left if sum(r[0] == row[0] for r in left) < k or sum(r[1] == row[1] for r in left) < k]:
        left.remove(weak[0])
    assert pairs(core) == [(user, item) for user, item, _ in left]


@given(interactions, st.integers(1, 6))
def test_largest_core_is_the_last_that_is_not_empty(rows: list[tuple[int, int, int]], below: int) -> None:
    sizes = [k for k in range(1, below) if len(k_core(columns(rows), k)[0])]
    assert largest_core(columns(rows), below) == max(sizes, default=0)


def test_the_earliest_of_repeated_reviews_stays_and_equal_times_go_by_file_order() -> None:
    rows = [(0, 0, 9), (0, 0, 5), (1, 0, 7), (0, 0, 5), (0, 1, 9)]
    left = first_reviews(columns(rows))
    assert left.line.tolist() == [2, 3, 5]


def test_sorting_is_by_user_then_time_then_line() -> None:
    rows = [(1, 0, 5), (0, 1, 9), (1, 2, 5), (0, 3, 1)]
    assert columns(rows).by_user_and_time().line.tolist() == [4, 2, 1, 3]
