"""Exact ranks: numbers derived by hand, and against a float64 brute force."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.decoder import matrix as matrix_module
from services.decoder.matrix import Matrix, TargetSet

# Similarities of the query (1, 0) to the five items are their first coordinates: 0.8, 0.6, 0.6, 0.0, -1.0.
VECTORS = np.array([[0.8, 0.6], [0.6, 0.8], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]], dtype=np.float32)
QUERY = np.array([[1.0, 0.0]], dtype=np.float32)
IDS = ["a", "b", "c", "d", "e"]


def names(count: int) -> list[str]:
    return [f"i{at}" for at in range(count)]


def brute_force(
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    wanted: Sequence[TargetSet],
    ranked: NDArray[np.bool_] | None = None,
) -> list[list[int]]:
    """Every similarity in float64, and a comparison with every item."""
    ranks = []
    for query, sets in zip(queries.astype(np.float64), wanted, strict=True):
        similarities = (vectors.astype(np.float64) * query).sum(axis=1)
        counts = np.ones(len(vectors), dtype=bool) if ranked is None else ranked.copy()
        counts[list(sets.excluded)] = False
        ranks.append([1 + int((similarities[counts] > similarities[target]).sum()) for target in sets.targets])
    return ranks


@pytest.fixture(params=[(5,), (2, 3), (1, 1, 1, 1, 1)], ids=str)
def matrix(request: pytest.FixtureRequest) -> Matrix:
    """The five items in one block, and in several."""
    ends = np.cumsum(request.param)[:-1]
    return Matrix(IDS, *np.split(VECTORS, ends))


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


def test_a_mask_leaves_items_out_of_every_ranking(matrix: Matrix) -> None:
    """Of a, b, c, d, e only b, d, e are ranked: 0.6, 0.0, -1.0; and without b only two."""
    wanted = [TargetSet([3, 4], []), TargetSet([3, 4], [1])]
    assert matrix.ranks(np.repeat(QUERY, 2, axis=0), wanted, matrix.mask(["b", "d", "e", "nobody"])) == [[2, 3], [1, 2]]


def test_the_opposite_query_turns_the_ranking_round(matrix: Matrix) -> None:
    ranks = matrix.ranks(np.concatenate([QUERY, -QUERY]), [TargetSet([0, 4], []), TargetSet([0, 4], [])])
    assert ranks == [[1, 5], [5, 1]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    items=st.integers(2, 120),
    dimensions=st.integers(1, 40),
    queries=st.integers(1, 7),
    copies=st.integers(0, 60),
    nudge=st.sampled_from([0.0, 2.0**-23, 1e-6, 1e-3]),
    half=st.booleans(),
    masked=st.booleans(),
)
def test_ranks_are_those_of_float64_also_among_near_ties(
    seed: int, items: int, dimensions: int, queries: int, copies: int, nudge: float, half: bool, masked: bool
) -> None:
    """Some items are copies of others, or differ from them by less than float32 can tell apart in a sum."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((items, dimensions)).astype(np.float32)
    originals, places = rng.integers(0, items, copies), rng.integers(0, items, copies)
    vectors[places] = vectors[originals] * (1 + nudge * rng.integers(-1, 2, (copies, 1))).astype(np.float32)
    vectors = vectors.astype(np.float16) if half else vectors
    asked = rng.standard_normal((queries, dimensions)).astype(np.float32)
    ranked = rng.random(items) < 0.7 if masked else None
    wanted = []
    for _ in range(queries):
        order = rng.permutation(items)
        wanted.append(TargetSet(order[: rng.integers(1, 4)].tolist(), order[4 : 4 + rng.integers(0, 5)].tolist()))
    matrix = Matrix(names(items), *np.array_split(vectors, rng.integers(1, 5)))
    assert matrix.ranks(asked, wanted, ranked) == brute_force(vectors.astype(np.float32), asked, wanted, ranked)


def test_more_queries_and_items_than_are_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_module, "_SLAB", 24 * 70)
    monkeypatch.setattr(matrix_module, "_QUERIES", 16)
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((400, 24)).astype(np.float32)
    queries = rng.standard_normal((50, 24)).astype(np.float32)
    wanted = [TargetSet([at, 399 - at], list(range(100, 300, at + 1))) for at in range(50)]
    assert Matrix(names(400), vectors).ranks(queries, wanted) == brute_force(vectors, queries, wanted)


def test_ranks_beyond_what_a_byte_can_count() -> None:
    """Item at has the similarity -at: its rank is at + 1, and turned round, 1,000 - at."""
    vectors = -np.arange(1_000, dtype=np.float32)[:, None]
    wanted = TargetSet([0, 254, 255, 256, 511, 999], [])
    found = Matrix(names(1_000), vectors).ranks(np.array([[1.0], [-1.0]], dtype=np.float32), [wanted, wanted])
    assert found == [[1, 255, 256, 257, 512, 1_000], [1_000, 746, 745, 744, 489, 1]]


def test_copies_of_an_item_tie_to_the_last_bit() -> None:
    """Were two equal rows to differ by rounding, one would stand above the other; 40 copies of the target leave it at 1."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((501, 48)).astype(np.float32)
    vectors[::13] = vectors[0]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = np.repeat(vectors[:1], 37, axis=0)
    assert Matrix(names(501), vectors).ranks(queries, [TargetSet([at], []) for at in range(0, 37 * 13, 13)]) == [[1]] * 37


def test_rows_are_added_and_replaced_and_the_old_matrix_stays(matrix: Matrix) -> None:
    changed = matrix.with_rows(["f", "e", "g"], np.array([[1.0, 0.0], [0.8, 0.6], [0.0, -1.0]], dtype=np.float32))
    assert changed.item_ids == [*IDS, "f", "g"]
    assert changed.ranks(QUERY, [TargetSet([4, 5, 6], [])]) == [[2, 1, 6]]  # e is now 0.8 like a, f is 1.0, g 0.0 like d
    assert matrix.ranks(QUERY, [TargetSet([4], [])]) == [[5]]
    assert changed.positions(["f", "nobody", "a"]) == [5, 0]
    assert changed.position("nobody") is None
    assert np.array_equal(changed.rows([5, 0, 4]), np.array([[1.0, 0.0], [0.8, 0.6], [0.8, 0.6]], dtype=np.float32))


def test_matrices_that_grew_out_of_one_stay_apart(matrix: Matrix) -> None:
    """Each of three grows by other rows: nobody sees another's, and the ranks are of its own rows only."""
    north, east = np.array([[0.0, 1.0]], dtype=np.float32), QUERY
    one = matrix.with_rows(["f"], east)
    other = matrix.with_rows(["g"], north)
    third = one.with_rows(["g"], east).with_rows(["h", "a"], np.concatenate([east, north]))
    assert [each.item_ids[5:] for each in (matrix, one, other, third)] == [[], ["f"], ["g"], ["f", "g", "h"]]
    assert [each.position("g") for each in (matrix, one, other, third)] == [None, None, 5, 6]
    assert one.ranks(QUERY, [TargetSet([0], [])]) == [[2]]  # behind f
    assert other.ranks(QUERY, [TargetSet([0, 5], [])]) == [[1, 4]]  # g is 0.0 like d, behind a, b, c
    assert third.ranks(QUERY, [TargetSet([0, 1], [])]) == [[6, 4]]  # a is 0.0 now; f, g, h are 1.0, b and c 0.6


def test_a_matrix_that_grows_batch_by_batch_is_the_one_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_module, "_BLOCK", 8 * 50)
    rng = np.random.default_rng(2)
    vectors = rng.standard_normal((300, 8)).astype(np.float32)
    grown = Matrix([])
    ends = np.cumsum([1, 1, 2, 40, 7, 7, 100, 3, 139])
    for start, end in zip([0, *ends], ends, strict=False):
        grown = grown.with_rows(names(300)[start:end], vectors[start:end])
    queries = rng.standard_normal((6, 8)).astype(np.float32)
    wanted = [TargetSet([at, 299 - at], [50, 150]) for at in range(6)]
    assert grown.item_ids == names(300)
    assert np.array_equal(grown.rows(range(300)), vectors)
    assert grown.ranks(queries, wanted) == brute_force(vectors, queries, wanted)


def test_rows_are_taken_out_and_the_old_matrix_stays(matrix: Matrix) -> None:
    """Without a and c: 0.6, 0.0, -1.0."""
    left = matrix.without({"a", "c", "nobody"})
    assert left.item_ids == ["b", "d", "e"]
    assert left.ranks(QUERY, [TargetSet([0, 1, 2], [])]) == [[1, 2, 3]]
    assert np.array_equal(left.rows([2, 0]), VECTORS[[4, 1]])
    assert len(matrix) == 5


def test_an_empty_matrix_takes_its_first_rows_and_loses_its_last() -> None:
    empty = Matrix([])
    assert len(empty) == 0
    one = empty.with_rows(["a"], QUERY)
    assert one.ranks(QUERY, [TargetSet([0], [])]) == [[1]]
    assert len(one.without({"a"})) == 0
