"""An experiment: which runs it needs, and what it makes of their results.

The result is a folder: config.json (settings, command, names of runs), metrics.json (all figures), table.md, picture.png. It
can be rendered again from the runs' folders without running anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console

from experiments.runner import run_all
from experiments.runs import Result, RunSpec
from experiments.settings import Hyperparameters, Preset, Settings
from langptune.errors import FailedPrecondition

Row = Sequence[str]


@dataclass(frozen=True)
class Report:
    """What is found."""

    title: str
    head: Row
    rows: Sequence[Row]
    notes: Sequence[str]  # how to read it: one sentence each
    metrics: Mapping[str, Any]  # every figure, for programs
    picture: Figure | None = None

    def markdown(self, command: str) -> str:
        """A table with its command and notes."""
        lines = [f"### {self.title}", "", f"`{command}`", "", f"| {' | '.join(self.head)} |", "|---" * len(self.head) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return "\n".join([*lines, "", *self.notes]) + "\n"


@dataclass(frozen=True)
class Experiment:
    """One table or figure."""

    title: str
    plan: Callable[[Settings], list[RunSpec]]
    report: Callable[[Settings, Sequence[Result]], Report]


def run(name: str, experiment: Experiment, settings: Settings, command: str, processes: int, console: Console) -> Path:
    """Do the runs that are missing, report, write the folder; returns it."""
    results = run_all(experiment.plan(settings), settings.runs, processes, console)
    folder = settings.out / name
    folder.mkdir(parents=True, exist_ok=True)
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(settings).items()}
    config = {"experiment": name, "command": command, "settings": plain, "runs": sorted(results)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    _write(folder, experiment.report(settings, list(results.values())), command)
    return folder


def render(folder: Path, experiments: Mapping[str, Experiment]) -> Path:
    """Write table.md, metrics.json and picture.png of `folder` again, from its runs; returns table.md.

    Raises FailedPrecondition if `folder` holds no experiment, or a run of it is gone.
    """
    config = written_by(folder)
    settings = _settings(config["settings"], folder.parent)
    results = [_result(settings, name) for name in config["runs"]]
    return _write(folder, experiments[config["experiment"]].report(settings, results), config["command"])


def written_by(folder: Path) -> dict[str, Any]:
    """config.json of an experiment's folder. Raises FailedPrecondition if there is none."""
    try:
        return dict(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError) as error:
        raise FailedPrecondition(f"{folder} holds no experiment: {error}", reason="NOT_AN_EXPERIMENT") from error


def _result(settings: Settings, name: str) -> Result:
    found = Result.find(settings.runs, name)
    if found is None:
        raise FailedPrecondition(f"{settings.runs / name} is gone: run the experiment again", reason="NO_RESULT")
    return found


def _settings(plain: Mapping[str, Any], out: Path) -> Settings:
    dataset = plain["dataset"]
    return Settings(
        **{
            **plain,
            "out": out,
            "preset": Preset(plain["preset"]),
            "hyperparameters": Hyperparameters(plain["hyperparameters"]),
            "dataset": None if dataset is None else Path(dataset),
        }
    )


def _write(folder: Path, report: Report, command: str) -> Path:
    (folder / "metrics.json").write_text(json.dumps(report.metrics, indent=2) + "\n")
    if report.picture is not None:
        report.picture.savefig(folder / "picture.png", dpi=110)
    page = folder / "table.md"
    page.write_text(report.markdown(command))
    return page
