"""Per-user scores, their means with 95 % confidence intervals, and the paired t-test between two sets of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

METRICS = ("ndcg", "recall", "mrr")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over users with its 95 % confidence interval (Student's t)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same users under two conditions: means, their ratio, the mean difference and a two-sided paired t-test."""

    before: float
    after: float
    ratio: float  # after / before; infinite for a rise from 0, 1 for 0 and 0
    difference: Estimate
    p_value: float  # 1.0 when no user differs


@dataclass(frozen=True)
class Scores:
    """One score per user and metric; each a mean over that user's sampled profiles."""

    user_ids: tuple[str, ...]
    ndcg: NDArray[np.float64]  # [users]
    recall: NDArray[np.float64]  # [users]
    mrr: NDArray[np.float64]  # [users]

    @classmethod
    def of(cls, user_ids: Sequence[str], rows: Sequence[tuple[float, float, float]]) -> Scores:
        """From one (ndcg, recall, mrr) per user."""
        table = np.asarray(rows, dtype=np.float64).reshape(len(user_ids), len(METRICS))
        return cls(tuple(user_ids), table[:, 0], table[:, 1], table[:, 2])

    def metric(self, name: str) -> NDArray[np.float64]:
        """[users]; `name` is one of METRICS."""
        return dict(zip(METRICS, (self.ndcg, self.recall, self.mrr), strict=True))[name]

    def estimates(self) -> dict[str, Estimate]:
        """By metric."""
        return {name: estimate(self.metric(name)) for name in METRICS}

    def summary(self) -> dict[str, Any]:
        """Means and intervals, for JSON."""
        return {name: asdict(found) for name, found in self.estimates().items()}

    def per_user(self) -> dict[str, list[Any]]:
        """Columns of equal length, for JSON."""
        return {"user_id": list(self.user_ids), **{name: [round(x, 6) for x in self.metric(name).tolist()] for name in METRICS}}


def estimate(values: NDArray[np.float64]) -> Estimate:
    """Mean and interval of [users]; of a single user the interval is the point."""
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean, mean, mean)
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return Estimate(mean, mean - half, mean + half)


def compare(before: Scores, after: Scores) -> dict[str, Comparison]:
    """By metric. Raises ValueError unless both are of the same users in the same order."""
    if before.user_ids != after.user_ids:
        raise ValueError("the scores are of different users")
    return {name: _compare(before.metric(name), after.metric(name)) for name in METRICS}


def _compare(before: NDArray[np.float64], after: NDArray[np.float64]) -> Comparison:
    start, end = float(before.mean()), float(after.mean())
    difference = after - before
    p_value = float(stats.ttest_rel(after, before).pvalue) if len(difference) > 1 and difference.std() > 0 else 1.0
    ratio = end / start if start else (math.inf if end else 1.0)
    return Comparison(start, end, ratio, estimate(difference), p_value)
