"""The experiments by name. Each plans runs, and reports on their results; `command` offers them, `render` writes them again."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.tables import accuracy, data, lengths, ratios
from experiments.tables.base import Experiment, Report, render, run, written_by

EXPERIMENTS: Mapping[str, Experiment] = {
    "table1": data.TABLE_1,
    "table2": accuracy.TABLE_2,
    "table3": accuracy.TABLE_3,
    "table4": lengths.TABLE_4,
    "figure4": ratios.FIGURE_4,
}

__all__ = ["EXPERIMENTS", "Experiment", "Report", "render", "run", "written_by"]
