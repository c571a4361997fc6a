"""Appendix C: what the models write for one user after k outer iterations of Algorithm 1, and beside it what that is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.beyond.reopen import Reopened
from experiments.runs import Result, RunSpec
from experiments.settings import Preset, Settings
from experiments.systems import Values
from experiments.tables.base import Experiment, Report
from langptune.text import history_text
from services.trainer.learning.presets import preset

SEED = 1
MOST = {Preset.QUICK: 1, Preset.FULL: 2}  # iterations; the paper: 5
USERS = 2


def _plan(settings: Settings) -> list[RunSpec]:
    """Runs of the other tables where they are the same: zero-shot, and the preset's own number of iterations."""
    specs = settings.specs(["langptune-0", "langptune"])
    values = settings.candidates("langptune")[0]
    for k in range(1, MOST[settings.preset] + 1):
        if k != _iterations(values):
            candidate = {**values, "overrides": {**values.get("overrides", {}), "outer_iterations": k}}
            specs += settings.specs(["langptune"], candidates=(candidate,))
    return [spec for spec in specs if spec.seed == SEED]


def _report(settings: Settings, results: Sequence[Result]) -> Report:
    ordered = sorted(results, key=iterations)
    runs = [Reopened(result) for result in ordered]
    rows = []
    for user, session in enumerate(runs[0].sessions[:USERS]):
        rows.append((session.user_id, "input", _line(history_text(session.history)), ""))
        for run in runs:
            ndcg = run.result.scores.ndcg[user]
            rows.append((session.user_id, f"k = {iterations(run.result)}", _line(run.texts[user].text), f"{ndcg:.3f}"))
    metrics: dict[str, Any] = {
        f"k={iterations(result)}": {
            "ndcg": result.metrics["test"]["ndcg"],
            "texts": {text.user_id: text.text for text in run.texts[:USERS]},
        }
        for result, run in zip(ordered, runs, strict=True)
    }
    notes = [
        f"Seed {SEED}; the first {USERS} test users, not chosen. The first profile of each; its NDCG@20 is the mean over all of "
        "that user's profiles. Mean NDCG@20 over all test users: "
        + ", ".join(f"{result.metrics['test']['ndcg']['mean']:.4f} (k = {iterations(result)})" for result in ordered)
        + "."
    ]
    return Report("Appendix C: examples", ("user", "after", "text", "NDCG@20"), rows, notes, metrics)


def iterations(result: Result) -> int:
    """k of a run."""
    return _iterations(result.config["chosen"])


def _iterations(values: Values) -> int:
    return preset(values.get("preset", "sample"), values.get("overrides", {})).outer_iterations


def _line(text: str) -> str:
    """For a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", "<br>")


EXAMPLES = Experiment("example generations", _plan, _report)
