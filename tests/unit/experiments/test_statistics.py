"""Comparisons of systems, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.runs import Result
from experiments.statistics import compare_all, holm, pooled
from langptune.evaluate.scores import Scores


def test_holm_by_hand() -> None:
    """Sorted .005 x 4 = .02, .01 x 3 = .03, .03 x 2 = .06, .04 x 1 = .04, but not below .06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_all_tests_of_a_table_are_one_family() -> None:
    """Two equal comparisons: each p is doubled."""
    before = Scores.of(["a", "b", "c"], [(0.1, 0.0, 0.0), (0.2, 0.0, 0.0), (0.4, 0.0, 0.0)])
    after = Scores.of(["a", "b", "c"], [(0.2, 0.0, 0.0), (0.4, 0.0, 0.0), (0.5, 0.0, 0.0)])
    (alone,) = compare_all({"one": (before, after)}).values()
    both = compare_all({"one": (before, after), "other": (before, after)})
    assert alone.adjusted == pytest.approx(alone.comparison.p_value)
    assert both["one"].adjusted == both["other"].adjusted == pytest.approx(2 * alone.adjusted)
    assert alone.comparison.ratio == pytest.approx(1.1 / 0.7)


def _result(folder: Path, dataset: str, seed: int, ndcg: list[float]) -> Result:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"identity": {"dataset_hash": dataset, "seed": seed}}))
    users = {"user_id": [f"u{at}" for at in range(len(ndcg))], "ndcg": ndcg, "recall": ndcg, "mrr": ndcg}
    pq.write_table(pa.table(users), folder / "users.parquet")
    return Result(folder)


def test_seeds_are_averaged_per_user_and_worlds_set_side_by_side(tmp_path: Path) -> None:
    """Two seeds on data A: users .2 and .5; one on B: user .9. Three users in all."""
    results = [
        _result(tmp_path / "b1", "B", 2, [0.9]),
        _result(tmp_path / "a1", "A", 1, [0.1, 0.4]),
        _result(tmp_path / "a2", "A", 2, [0.3, 0.6]),
    ]
    found = pooled(results)
    assert found.user_ids == ("A/u0", "A/u1", "B/u0")
    assert found.ndcg.tolist() == pytest.approx([0.2, 0.5, 0.9])
