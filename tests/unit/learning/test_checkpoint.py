"""Checkpoints: whole or not there, verified, the last few kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from langptune.errors import FailedPrecondition
from services.trainer.learning.checkpoint import load_checkpoint, save_checkpoint


def test_round_trip_keeps_the_newest(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    for done in (1, 2, 9, 10):
        save_checkpoint(tmp_path, {"done": done, "weights": {"a": torch.full((3,), float(done))}}, keep=2)
    state = load_checkpoint(tmp_path)
    assert state is not None
    assert state["done"] == 10
    assert torch.equal(state["weights"]["a"], torch.full((3,), 10.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch-000009", "batch-000010"]


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for done in (1, 2):
        save_checkpoint(tmp_path, {"done": done})
    newest = tmp_path / "batch-000002" / "state.pt"
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    state = load_checkpoint(tmp_path)
    assert state == {"done": 1}
    (tmp_path / "batch-000001" / "manifest.json").write_text("{")
    with pytest.raises(FailedPrecondition):
        load_checkpoint(tmp_path)


def test_what_a_killed_writer_left_is_no_checkpoint(tmp_path: Path) -> None:
    left_over = tmp_path / "batch-000005.writing"
    left_over.mkdir()
    (left_over / "state.pt").write_bytes(b"half")
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, {"done": 5})
    assert load_checkpoint(tmp_path) == {"done": 5}
    assert not left_over.exists()
