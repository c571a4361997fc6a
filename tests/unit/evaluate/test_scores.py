"""Means, intervals, paired tests and baselines against numbers derived by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from langptune.data.dataset import Dataset, SessionRow, write_dataset
from langptune.domain import Interaction, Item
from langptune.evaluate import Scores, compare, popularity_scores, random_scores


def scores(*ndcg: float) -> Scores:
    return Scores.of([f"u{at}" for at in range(len(ndcg))], [(value, 0.0, 0.0) for value in ndcg])


def test_interval_of_three_users() -> None:
    """Mean 0.5, s = 0.5, se = 0.5/sqrt(3) = 0.288675; t(0.975, 2 df) = 4.302653: half width 1.242070."""
    found = scores(0.0, 0.5, 1.0).estimates()["ndcg"]
    assert found.mean == pytest.approx(0.5)
    assert found.high - found.mean == pytest.approx(1.242070, abs=1e-5)


def test_paired_t_test() -> None:
    """Differences .1, .2, .3: mean .2, s = .1, t = .2 / (.1/sqrt 3) = 3.4641 at 2 df; two-sided p = 0.074180."""
    found = compare(scores(0.1, 0.1, 0.1), scores(0.2, 0.3, 0.4))["ndcg"]
    assert found.ratio == pytest.approx(3.0)
    assert found.p_value == pytest.approx(0.074180, abs=1e-5)


def test_no_difference_has_p_one() -> None:
    found = compare(scores(0.1, 0.2), scores(0.1, 0.2))
    assert found["ndcg"].p_value == 1.0
    assert (found["recall"].ratio, found["recall"].p_value) == (1.0, 1.0)


def test_different_users_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different users"):
        compare(scores(0.1), scores(0.1, 0.2))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Ten items; i0 is chosen by two training users, i1 by one; the test user has seen i0 and chooses i1."""
    items = [Item(f"i{at}", f"Item {at}") for at in range(10)]
    interactions = [(user, Interaction(items[0], 5.0)) for user in ("a", "b", "t")]
    sessions = [
        SessionRow("a", "train", (0,), ("i1",)),
        SessionRow("b", "train", (1,), ("i0",)),
        SessionRow("t", "test", (2,), ("i1",)),
    ]
    return write_dataset(tmp_path / "data", name="tiny", items=items, interactions=interactions, sessions=sessions, made_by={})


def test_popularity_leaves_the_history_out(dataset: Dataset) -> None:
    """i0 is the most popular but in the history, so i1 stands first."""
    found = popularity_scores(dataset, dataset.sessions("test"), cutoff=20)
    assert (found.ndcg[0], found.recall[0], found.mrr[0]) == (1.0, 1.0, 1.0)


def test_random_is_the_exact_expectation(dataset: Dataset) -> None:
    """Nine items are left, one is the target: each place has chance 1/9."""
    found = random_scores(dataset, dataset.sessions("test"), cutoff=3)
    assert found.recall[0] == pytest.approx(3 / 9)
    assert found.mrr[0] == pytest.approx((1 + 1 / 2 + 1 / 3) / 9)
    assert found.ndcg[0] == pytest.approx((1 + 1 / math.log2(3) + 1 / 2) / 9)


def test_random_with_two_targets_agrees_with_drawing(tmp_path: Path) -> None:
    from langptune.ranking import ranking_quality

    items = [Item(f"i{at}", f"Item {at}") for at in range(8)]
    rows = [SessionRow("t", "test", (0,), ("i1", "i2"))]
    data = write_dataset(
        tmp_path / "data", name="tiny", items=items, interactions=[("t", Interaction(items[0], 5.0))], sessions=rows, made_by={}
    )
    found = random_scores(data, data.sessions("test"), cutoff=4)
    rng = np.random.default_rng(0)
    drawn = [ranking_quality(sorted((rng.permutation(7)[:2] + 1).tolist()), 4) for _ in range(20_000)]
    assert found.ndcg[0] == pytest.approx(np.mean([each.ndcg for each in drawn]), abs=0.01)
    assert found.recall[0] == pytest.approx(np.mean([each.recall for each in drawn]), abs=0.01)
    assert found.mrr[0] == pytest.approx(np.mean([each.mrr for each in drawn]), abs=0.01)
