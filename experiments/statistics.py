"""Comparing systems user by user: paired t-tests, and Holm's correction for making many of them at once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from experiments.runs import Result
from langptune.evaluate.scores import METRICS, Comparison, Scores, compare

ALPHA = 0.05
KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(frozen=True)
class Tested:
    """One system against another on the same users."""

    comparison: Comparison  # of NDCG; before: the baseline, after: the system that it is held against
    adjusted: float  # Holm's p-value over the family of comparisons

    @property
    def significant(self) -> bool:
        """At ALPHA, over the whole family."""
        return self.adjusted < ALPHA


def pooled(results: Sequence[Result]) -> Scores:
    """One score a user: of users of one data set the mean over the seeds; data sets (worlds) one after the other."""
    by_data: dict[str, list[Scores]] = {}
    for result in sorted(results, key=lambda each: (each.config["identity"]["dataset_hash"], each.config["identity"]["seed"])):
        by_data.setdefault(result.config["identity"]["dataset_hash"], []).append(result.scores)
    users, rows = [], []
    for data, scores in by_data.items():
        if any(each.user_ids != scores[0].user_ids for each in scores):
            raise ValueError("the results are of different users")
        users += [f"{data[:8]}/{user}" for user in scores[0].user_ids]
        rows.append(np.mean([[each.metric(name) for name in METRICS] for each in scores], axis=0).T)  # [users, metrics]
    return Scores.of(users, [tuple(row) for row in np.concatenate(rows).tolist()])


def compare_all(pairs: Mapping[KeyT, tuple[Scores, Scores]]) -> dict[KeyT, Tested]:
    """Every (baseline, system) by NDCG: two-sided paired t-tests, all of them one family for Holm."""
    found = {key: compare(baseline, system)["ndcg"] for key, (baseline, system) in pairs.items()}
    adjusted = holm([each.p_value for each in found.values()])
    return {key: Tested(each, p) for (key, each), p in zip(found.items(), adjusted, strict=True)}


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of Holm (1979): the i-th smallest of m times (m - i + 1), never below a smaller one's, at most 1."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    so_far = 0.0
    for place, at in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p_values) - place) * p_values[at]))
        adjusted[at] = so_far
    return [float(p) for p in adjusted]
