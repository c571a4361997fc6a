"""docs/metrics.md names exactly the metrics of a step, the guards with their default limits, and the figures of a validation."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from langptune.v1 import common_pb2
from services.trainer.learning.config import Guard, GuardsConfig
from services.trainer.learning.progress import Progress, RolloutFigures

PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
OTHER = ("step", "total", "phase", "outer", "rollouts", "alarms")


def _rows(title: str) -> dict[str, str]:
    """Each name in the first column of a section's table, with the second column."""
    section = PAGE.split(f"## {title}")[1].split("\n## ")[0]
    lines = re.findall(r"^\| (`.*?) \| (.*?) \|", section, re.M)
    return {name: second for names, second in lines for name in re.findall(r"`(\w+)`", names)}


def _limits(guard: Guard) -> str:
    sides = {"above": guard.above, "below": guard.below}
    return ", ".join(f"{side} {value:g}" for side, value in sides.items() if value is not None) or "none"


def test_every_metric_of_a_step_has_its_line() -> None:
    carried = Progress(
        step=1,
        total=1,
        phase="rlso",
        outer=0,
        rollouts=RolloutFigures(**{field.name: 0.0 for field in fields(RolloutFigures)}),
        **{field.name: 0.0 for field in fields(Progress) if field.name not in OTHER},
    ).metrics()
    assert set(_rows("Of a step")) == set(carried)


def test_every_guard_has_its_line_with_its_default_limits() -> None:
    limits = {name: _limits(guard) for name, guard in GuardsConfig().by_metric().items()}
    assert _rows("Guards") == limits
    assert set(limits) <= set(_rows("Of a step"))
    assert f"`guards.patience` ({GuardsConfig().patience})" in PAGE


def test_every_figure_of_a_validation_has_its_line() -> None:
    assert set(_rows("Of a validation")) == set(common_pb2.RankingMetrics.DESCRIPTOR.fields_by_name)
