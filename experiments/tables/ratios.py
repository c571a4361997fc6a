"""Figure 4: how much each kind of system needs the training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from experiments.runs import Result, RunSpec
from experiments.settings import Settings
from experiments.statistics import compare_all, pooled
from experiments.systems import entry
from experiments.tables.base import Experiment, Report
from experiments.tables.parts import CHAMPION, cell, change, pooling_note
from langptune.evaluate.scores import Scores

RATIOS = (0.001, 0.01, 0.1, 1.0)  # of the training users; the paper's ends, and two between
BASELINES = ("mcl", "llm2bert4rec")  # the paper's
ByRatio = Mapping[tuple[str, float], Scores]  # (system, ratio)


def _plan(settings: Settings) -> list[RunSpec]:
    return [spec for ratio in RATIOS for spec in settings.specs([*BASELINES, CHAMPION], train_ratio=ratio)]


def _report(settings: Settings, results: Sequence[Result]) -> Report:
    by_key: dict[tuple[str, float], list[Result]] = {}
    for result in results:
        identity = result.config["identity"]
        by_key.setdefault((identity["system"], identity["train_ratio"]), []).append(result)
    scores = {key: pooled(own) for key, own in by_key.items()}
    tests = compare_all({(name, ratio): (scores[name, ratio], scores[CHAMPION, ratio]) for name in BASELINES for ratio in RATIOS})
    rows = [
        (entry(name).title, *(cell(scores[name, ratio].estimates()["ndcg"]) for ratio in RATIOS))
        for name in (*BASELINES, CHAMPION)
    ]
    for name in BASELINES:
        rows.append(
            (f"LangPTune against {entry(name).title} (p)", *("{} ({})".format(*change(tests[name, at])) for at in RATIOS))
        )
    notes = [
        "NDCG@20 by share of the training users; a smaller share is part of a larger one. The histories of held-out users are "
        "always there to learn from, as in the paper.",
        pooling_note(results, len(scores[CHAMPION, 1.0].user_ids)),
    ]
    metrics = {f"{name} at {ratio:g}": each.summary() for (name, ratio), each in scores.items()}
    head = ("method", *(f"{ratio:.1%}" for ratio in RATIOS))
    return Report("Figure 4: share of the training data", head, rows, notes, metrics, _picture(scores))


def _picture(scores: ByRatio) -> Figure:
    figure = Figure(figsize=(6, 4))
    axis = figure.subplots()
    for name in (*BASELINES, CHAMPION):
        found = [scores[name, ratio].estimates()["ndcg"] for ratio in RATIOS]
        half = [each.high - each.mean for each in found]
        axis.errorbar(RATIOS, [each.mean for each in found], yerr=half, marker="o", label=entry(name).title)
    axis.set(xscale="log", xlabel="share of the training users", ylabel="NDCG@20")
    axis.legend()
    figure.tight_layout()
    return figure


FIGURE_4 = Experiment("share of the training data", _plan, _report)
