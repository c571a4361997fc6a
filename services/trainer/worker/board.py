"""A job's TensorBoard event files: the numbers of its events, as WatchTrainingJob tells them.

Tags are `cl/<metric>`, `rlso/<metric>` and `validation/<metric>`, all defined in docs/metrics.md; alarms of the guards are texts.
When a job goes on from a checkpoint, what an earlier attempt wrote for the steps that are done again is marked as void.
"""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard.writer import SummaryWriter

from langptune.v1 import trainer_pb2

_VALIDATION = ("ndcg", "recall", "mrr")


class Board:
    """Writes below `folder`, from its first event on. Each event is on disk when `record` returns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._step = 0  # of the newest StepDone; validation before the first step is at 0

    def record(self, event: trainer_pb2.TrainingEvent) -> None:
        """Write the numbers of `event`, if it has any. Errors of the file system pass through."""
        if event.HasField("step_done"):
            done = event.step_done
            self._step = done.step
            self._scalars(done.phase, dict(done.metrics))
        elif event.HasField("validation_done"):
            metrics = event.validation_done.metrics
            self._scalars("validation", {name: getattr(metrics, name) for name in _VALIDATION})
        elif event.HasField("guard_fired"):
            self._open().add_text("guards", event.guard_fired.message, self._step)

    def close(self) -> None:
        """End the file."""
        if self._writer:
            self._writer.close()

    def _scalars(self, group: str, values: dict[str, float]) -> None:
        writer = self._open()
        for name, value in values.items():
            writer.add_scalar(f"{group}/{name}", value, self._step)
        writer.flush()

    def _open(self) -> SummaryWriter:
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=self._step)
        return self._writer
