"""docs/metrics.md names exactly the metrics that a step can carry."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from services.trainer.learning.progress import Progress, RolloutFigures

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_every_metric_of_a_step_has_its_line() -> None:
    carried = Progress(
        step=1,
        total=1,
        phase="rlso",
        outer=0,
        rollouts=RolloutFigures(**{field.name: 0.0 for field in fields(RolloutFigures)}),
        **{field.name: 0.0 for field in fields(Progress) if field.name not in ("step", "total", "phase", "outer", "rollouts")},
    ).metrics()
    section = PAGE.read_text().split("## Of a step")[1].split("## ")[0]
    documented = {name for line in re.findall(r"^\| (`.*?) \|", section, re.M) for name in re.findall(r"`(\w+)`", line)}
    assert documented == set(carried)
