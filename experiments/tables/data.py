"""Table 1: what the data sets hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq

from experiments.runs import Result
from experiments.settings import Settings
from experiments.tables.base import Experiment, Report
from langptune.data.dataset import SPLITS, Dataset

HEAD = ("data set", "sessions train / val / test", "items", "interactions", "content hash")


def _report(settings: Settings, results: Sequence[Result]) -> Report:
    found = {dataset.content_hash: counted(dataset) for _, dataset in settings.datasets()}
    rows = [
        (
            counts["name"],
            " / ".join(f"{counts['sessions'][split]:,}" for split in SPLITS),
            f"{counts['items']:,}",
            f"{counts['interactions']:,}",
            content_hash[:16],
        )
        for content_hash, counts in found.items()
    ]
    notes = ["Interactions: every (user, item) of a session, its targets included, once."]
    return Report("Table 1: data statistics", HEAD, rows, notes, found)


def counted(dataset: Dataset) -> dict[str, Any]:
    """Sizes of one data set; interactions as Table 1 of the paper has them: those that sessions are made of."""
    table = pq.read_table(dataset.folder / "sessions.parquet").to_pylist()
    users = pq.read_table(dataset.folder / "interactions.parquet", columns=["item_id"]).column(0).to_pylist()
    pairs = {(row["user_id"], item) for row in table for item in (*(users[at] for at in row["history"]), *row["targets"])}
    sessions = {split: sum(row["split"] == split for row in table) for split in SPLITS}
    return {"name": dataset.name, "sessions": sessions, "items": len(dataset.items), "interactions": len(pairs)}


TABLE_1 = Experiment("data statistics", plan=lambda settings: [], report=_report)
