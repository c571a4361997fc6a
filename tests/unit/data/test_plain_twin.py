"""The preparation against the row-by-row pandas version that the benchmark times: the same data set from the same files."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.data_plain import prepare_plain
from benchmarks.data_world import write_raw_files
from langptune.data.options import PrepareOptions
from langptune.data.prepare import prepare
from langptune.domain import Session

OPTIONS = {
    "defaults, but for a small core": PrepareOptions(min_interactions=3, history_length=3),
    "tight limits": PrepareOptions(min_interactions=2, history_length=2, item_tokens=300, prompt_tokens=500, held_out=0.4),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_both_make_the_same_data_set(tmp_path: Path, name: str) -> None:
    reviews, metadata = write_raw_files(tmp_path / "raw", 1_500, seed=len(name))
    ours = prepare(reviews, metadata, tmp_path / "out", options=OPTIONS[name]).dataset
    plain = prepare_plain(reviews, metadata, OPTIONS[name])

    assert list(ours.items.values()) == plain.items
    assert ours.interactions == plain.interactions
    sessions = [session for split in ("train", "validation", "test") for session in ours.sessions(split)]
    assert sorted(sessions, key=lambda session: session.user_id) == sorted(
        (
            Session(user, tuple(plain.interactions[at][1] for at in history), tuple(targets), split)
            for user, split, history, targets in plain.sessions
        ),
        key=lambda session: session.user_id,
    )
    assert {session.split for session in sessions} == {"train", "validation", "test"}


def test_the_raw_files_have_what_the_real_ones_have(tmp_path: Path) -> None:
    """Nulls, mark-up, repeated reviews and items without metadata: each step of the preparation has something to do."""
    reviews, metadata = write_raw_files(tmp_path, 5_000)
    prepared = prepare(reviews, metadata, tmp_path / "out", options=PrepareOptions(min_interactions=3))
    dropped = {row.step: row.dropped for row in prepared.funnel}
    for step in ("read", "item has metadata", "first review of an item", "k-core", "item text fits", "prompt fits"):
        assert dropped[step] > 0, step
