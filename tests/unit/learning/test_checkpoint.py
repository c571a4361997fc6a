"""Checkpoints: whole or not there, verified, the newest few and the best kept; and the random state that they hold."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from langptune.errors import FailedPrecondition
from services.trainer.learning.checkpoint import Checkpoints, read_part, write_part
from services.trainer.learning.randomness import random_state, restore_random_state, seed_all


def _part(done: int) -> dict[str, object]:
    return {"run": {"done": done, "name": "a"}, "policy": {"w": torch.full((3,), float(done))}}


def _done(checkpoints: Checkpoints) -> int | None:
    state = checkpoints.load()
    return None if state is None else state["run"]["done"]


def _kept(root: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("batch-")) for path in root.iterdir())


def test_round_trip_keeps_the_newest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.load() is None
    for done in (1, 2, 9, 10):
        checkpoints.save(done, _part(done))
    state = checkpoints.load()
    assert state is not None
    assert state.keys() == {"run", "policy"}
    assert state["run"] == {"done": 10, "name": "a"}
    assert torch.equal(state["policy"]["w"], torch.full((3,), 10.0))
    assert _kept(tmp_path) == [9, 10]


def test_one_can_be_written_again(tmp_path: Path) -> None:
    """A job that went on from an older checkpoint comes by the same place once more."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(3, _part(1))
    checkpoints.save(3, _part(3))
    assert _done(checkpoints) == 3
    assert _kept(tmp_path) == [3]


@pytest.mark.parametrize("victim", ["policy.pt", "run.pt", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, victim: str) -> None:
    checkpoints = Checkpoints(tmp_path)
    for done in (1, 2):
        checkpoints.save(done, _part(done))
    newest = tmp_path / "batch-000002" / victim
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    with capture_logs() as logs:
        assert _done(checkpoints) == 1
    assert [(line["event"], line["log_level"]) for line in logs] == [("checkpoint is damaged", "warning")]
    assert logs[0]["folder"].endswith("batch-000002")


def test_a_missing_file_is_damage(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for done in (1, 2):
        checkpoints.save(done, _part(done))
    (tmp_path / "batch-000002" / "policy.pt").unlink()
    assert _done(checkpoints) == 1


def test_no_whole_checkpoint_is_an_error_not_a_fresh_start(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, _part(1))
    (tmp_path / "batch-000001" / "manifest.json").write_text("{")
    with pytest.raises(FailedPrecondition) as refused:
        checkpoints.load()
    assert refused.value.reason == "DAMAGED_CHECKPOINT"


def test_what_a_killed_writer_left_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    half = checkpoints.begin(5)
    write_part(half, "run", {"done": 5})
    assert checkpoints.load() is None
    assert checkpoints.newest() is None
    checkpoints.save(4, _part(4))
    assert _done(checkpoints) == 4
    assert _kept(tmp_path) == [4]


def test_several_writers_fill_one_checkpoint(tmp_path: Path) -> None:
    """The seam for several processes: each writes its own files, also in folders of their own, and all of them are verified."""
    checkpoints = Checkpoints(tmp_path)
    folder = checkpoints.begin(7)
    write_part(folder, "run", {"done": 7})
    for rank in range(2):
        (folder / f"rank-{rank}").mkdir()
        (folder / f"rank-{rank}" / "shard.bin").write_bytes(bytes([rank]))
    final = checkpoints.seal(folder, 7)
    assert checkpoints.newest() == final
    assert read_part(final, "run") == {"done": 7}
    (final / "rank-1" / "shard.bin").write_bytes(b"?")
    with pytest.raises(FailedPrecondition):
        checkpoints.newest()


def test_the_best_is_kept_besides_the_newest_and_can_be_gone_back_to(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for done, score in ((1, None), (2, 0.5), (3, 0.7), (4, 0.7), (5, 0.1), (6, None), (7, 0.2)):
        checkpoints.save(done, _part(done), score)
    assert _kept(tmp_path) == [4, 6, 7]
    assert _done(checkpoints) == 7
    assert checkpoints.rewind_to_best() == 4
    assert _kept(tmp_path) == [4]
    assert _done(checkpoints) == 4
    assert Checkpoints(tmp_path / "empty").rewind_to_best() == 0


def test_a_damaged_best_is_not_gone_back_to(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    for done, score in ((1, 0.3), (2, 0.9), (3, 0.1)):
        checkpoints.save(done, _part(done), score)
    (tmp_path / "batch-000002" / "policy.pt").write_bytes(b"")
    assert checkpoints.rewind_to_best() == 1


def test_the_random_state_survives_a_checkpoint(tmp_path: Path) -> None:
    def drawn() -> tuple[float, list[float], list[float]]:
        np.random.standard_normal()  # leaves half of a pair behind, which is state, too
        return random.random(), np.random.standard_normal(3).tolist(), torch.rand(3).tolist()

    seed_all(5)
    drawn()
    Checkpoints(tmp_path).save(1, {"random": random_state()})
    expected = drawn()
    seed_all(6)
    assert drawn() != expected
    state = Checkpoints(tmp_path).load()
    assert state is not None
    restore_random_state(state["random"])
    assert drawn() == expected
