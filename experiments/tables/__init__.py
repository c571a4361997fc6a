"""The experiments by name. Each plans runs, and reports on their results; `command` offers them, `render` writes them again."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.tables import accuracy, beyond, data, examples, figure5, lengths, ratios, study
from experiments.tables.base import Experiment, Report, render, run, written_by

EXPERIMENTS: Mapping[str, Experiment] = {
    "table1": data.TABLE_1,
    "table2": accuracy.TABLE_2,
    "table3": accuracy.TABLE_3,
    "table4": lengths.TABLE_4,
    "figure4": ratios.FIGURE_4,
    "table5": study.TABLE_5,
    "table6": study.TABLE_6,
    "figure5": figure5.FIGURE_5,
    "examples": examples.EXAMPLES,
    "steering": beyond.STEERING,
    "profiles": beyond.PROFILES,
    "histories": beyond.HISTORIES,
}

__all__ = ["EXPERIMENTS", "Experiment", "Report", "render", "run", "written_by"]
