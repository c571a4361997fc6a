"""What tables have in common: cells, notes on how results were pooled and tested, figures for programs, bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from experiments.runs import Result
from experiments.statistics import ALPHA, Tested, pooled
from experiments.systems import entry
from experiments.tables.pooling import by_system
from langptune.evaluate.scores import Estimate, Scores

METRICS = ("recall", "mrr", "ndcg")  # in the order of the paper's columns
HEAD = ("Recall@20", "MRR@20", "NDCG@20")
CHAMPION = "langptune"
AGAINST = ("LangPTune's NDCG@20 against it", "p (Holm)")


def scores_by_system(results: Sequence[Result]) -> dict[str, Scores]:
    """Pooled over seeds, in the order of SYSTEMS."""
    return {name: pooled(own) for name, own in by_system(results).items()}


def cells(scores: Scores) -> list[str]:
    """One a metric."""
    found = scores.estimates()
    return [cell(found[metric]) for metric in METRICS]


def cell(found: Estimate) -> str:
    """Mean and half width."""
    return f"{found.mean:.4f} ± {found.high - found.mean:.4f}"


def change(test: Tested | None) -> tuple[str, str]:
    """How much better the system is than the baseline, starred where significant, and the adjusted p; empty without a test."""
    if test is None:
        return "", ""
    return f"{test.comparison.ratio - 1:+.1%}{'*' if test.significant else ''}", f"{test.adjusted:.1e}"


def plain(scores: Scores, test: Tested | None) -> dict[str, Any]:
    """For metrics.json."""
    figures: dict[str, Any] = scores.summary()
    if test is not None:
        figures["champion_against_it"] = {
            "ratio": test.comparison.ratio,
            "difference": test.comparison.difference.mean,
            "p": test.comparison.p_value,
            "p_holm": test.adjusted,
        }
    return figures


def pooling_note(results: Sequence[Result], users: int) -> str:
    """What a reader must know to read intervals and tests."""
    seeds = sorted({each.config["identity"]["seed"] for each in results})
    data = len({each.config["identity"]["dataset_hash"] for each in results})
    return (
        f"{users:,} test users; seeds {', '.join(map(str, seeds))}; {data} data set{'s' if data > 1 else ''}. ± is half a 95 % "
        "t-interval over users. Two-sided paired t-tests per user on NDCG@20, Holm's correction over all tests of this table; "
        f"* p < {ALPHA}. A user of several seeds counts once, with the mean. The tests do not cover differences between "
        "trainings."
    )


def bars(title: str, scores: Mapping[str, Scores]) -> Figure:
    """NDCG@20 of each system."""
    figure = Figure(figsize=(8, 0.4 * len(scores) + 1.5))
    axis = figure.subplots()
    names = list(scores)[::-1]
    found = [scores[name].estimates()["ndcg"] for name in names]
    axis.barh(
        [entry(name).title for name in names], [each.mean for each in found], xerr=[each.high - each.mean for each in found]
    )
    axis.set(xlabel="NDCG@20, 95 % intervals over users", title=title)
    figure.tight_layout()
    return figure
