"""Exact ranks, with every number derived by hand."""

from __future__ import annotations

import numpy as np
import pytest

from services.decoder.matrix import Matrix, TargetSet

# Similarities of the query (1, 0) to the five items are their first coordinates: 0.8, 0.6, 0.6, 0.0, -1.0.
VECTORS = np.array([[0.8, 0.6], [0.6, 0.8], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]], dtype=np.float32)
QUERY = np.array([[1.0, 0.0]], dtype=np.float32)


@pytest.fixture
def matrix() -> Matrix:
    return Matrix(["a", "b", "c", "d", "e"], VECTORS)


@pytest.mark.parametrize(
    ("targets", "excluded", "expected"),
    [
        ([0], [], [1]),  # nothing is above 0.8
        ([1], [], [2]),  # 0.8 is; c is equal and stands behind
        ([2], [], [2]),  # and so does b behind c
        ([3], [], [4]),  # 0.8, 0.6, 0.6
        ([4], [], [5]),
        ([3], [0, 1], [2]),  # only c is left above
        ([4, 0], [1, 2, 3], [2, 1]),  # in the order asked for
    ],
)
def test_ranks_by_hand(matrix: Matrix, targets: list[int], excluded: list[int], expected: list[int]) -> None:
    assert matrix.ranks(QUERY, [TargetSet(targets, excluded)]) == [expected]


def test_the_opposite_query_turns_the_ranking_round(matrix: Matrix) -> None:
    ranks = matrix.ranks(np.concatenate([QUERY, -QUERY]), [TargetSet([0, 4], []), TargetSet([0, 4], [])])
    assert ranks == [[1, 5], [5, 1]]


def test_ranks_agree_with_a_float64_sort_however_many_queries_there_are() -> None:
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((400, 24))
    queries = rng.standard_normal((50, 24))
    matrix = Matrix([f"i{at}" for at in range(400)], vectors.astype(np.float32))
    targets = [int(at) for at in rng.integers(0, 400, 50)]
    got = matrix.ranks(queries.astype(np.float32), [TargetSet([target], []) for target in targets])
    order = np.argsort(-(queries @ vectors.T), axis=1)
    assert got == [[1 + int(np.flatnonzero(row == target)[0])] for row, target in zip(order, targets, strict=True)]


def test_copies_of_an_item_tie_to_the_last_bit() -> None:
    """Were two equal rows to differ by rounding, one would stand above the other; 40 copies of the target leave it at 1."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((501, 48)).astype(np.float32)
    vectors[::13] = vectors[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    matrix = Matrix([f"i{at}" for at in range(501)], vectors)
    queries = np.repeat(vectors[:1], 37, axis=0)
    assert matrix.ranks(queries, [TargetSet([at], []) for at in range(0, 37 * 13, 13)]) == [[1]] * 37


def test_rows_are_added_and_replaced_and_the_old_matrix_stays(matrix: Matrix) -> None:
    changed = matrix.with_rows(["f", "e"], np.array([[1.0, 0.0], [0.8, 0.6]], dtype=np.float32))
    assert changed.item_ids == ["a", "b", "c", "d", "e", "f"]
    assert changed.ranks(QUERY, [TargetSet([4, 5], [])]) == [[2, 1]]  # e is now 0.8 like a, f is 1.0
    assert matrix.ranks(QUERY, [TargetSet([4], [])]) == [[5]]
    assert changed.positions(["f", "nobody", "a"]) == [5, 0]
    assert changed.position("nobody") is None


def test_an_empty_matrix_takes_its_first_rows() -> None:
    empty = Matrix([], np.zeros((0, 2), dtype=np.float32))
    assert len(empty) == 0
    assert empty.with_rows(["a"], QUERY).ranks(QUERY, [TargetSet([0], [])]) == [[1]]
