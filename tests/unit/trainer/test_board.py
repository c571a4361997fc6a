"""TensorBoard event files, read back by TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from langptune.v1 import common_pb2
from langptune.v1 import trainer_pb2 as pb
from services.trainer.worker.board import Board


def _step(number: int, **metrics: float) -> pb.TrainingEvent:
    return pb.TrainingEvent(step_done=pb.StepDone(phase="rlso", step=number, steps_total=9, metrics=metrics))


def _validated(ndcg: float) -> pb.TrainingEvent:
    return pb.TrainingEvent(validation_done=pb.ValidationDone(metrics=common_pb2.RankingMetrics(ndcg=ndcg, recall=0.5, mrr=0.25)))


def _read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return events


def _scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in _read(folder).Scalars(tag)]


def test_the_events_of_a_job(tmp_path: Path) -> None:
    board = Board(tmp_path / "job")
    assert not (tmp_path / "job").exists()  # nothing is written before there is something
    board.record(_validated(0.1))
    board.record(pb.TrainingEvent(state_changed=pb.StateChanged(state=pb.JOB_STATE_RUNNING)))
    board.record(_step(1, loss=0.3, kl=0.0))
    board.record(_step(2, loss=0.2, kl=1.5))
    assert _scalars(tmp_path / "job", "rlso/loss") == [(1, np.float32(0.3)), (2, np.float32(0.2))]  # there before it is closed
    board.record(pb.TrainingEvent(guard_fired=pb.GuardFired(guard="kl", message="kl was 1.5, above 1")))
    board.record(_validated(0.2))
    board.close()
    assert _scalars(tmp_path / "job", "rlso/kl") == [(1, 0.0), (2, 1.5)]
    assert _scalars(tmp_path / "job", "validation/ndcg") == [(0, np.float32(0.1)), (2, np.float32(0.2))]
    texts = _read(tmp_path / "job").Tensors("guards/text_summary")
    assert [(event.step, event.tensor_proto.string_val[0]) for event in texts] == [(2, b"kl was 1.5, above 1")]


def test_steps_that_are_done_again_count_once(tmp_path: Path) -> None:
    first = Board(tmp_path)
    first.record(_validated(0.1))
    for step in (1, 2, 3):
        first.record(_step(step, loss=0.5))
    # killed: never closed. The next attempt goes on from the checkpoint of step 1.
    second = Board(tmp_path)
    for step in (2, 3, 4):
        second.record(_step(step, loss=0.25))
    second.close()
    assert _scalars(tmp_path, "rlso/loss") == [(1, 0.5), (2, 0.25), (3, 0.25), (4, 0.25)]
    assert _scalars(tmp_path, "validation/ndcg") == [(0, np.float32(0.1))]
