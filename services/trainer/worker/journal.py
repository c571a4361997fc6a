"""A worker's voice: what it writes into the job table under its attempt, waiting for a Redis that is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from langptune.v1 import trainer_pb2
from services.trainer.jobs.job import RUNNING, Job, State, state_event
from services.trainer.jobs.table import JobTable
from services.trainer.patience import Answer, patiently

_STORE = "the job table (Redis)"


class Journal:
    """Methods raise Superseded when the attempt is over, and Unavailable when Redis is away for `patience` seconds."""

    def __init__(self, table: JobTable, job_id: str, attempt: int, patience: float) -> None:
        self._table = table
        self._job_id = job_id
        self._attempt = attempt
        self._patience = patience

    async def job(self) -> Job:
        """The job as it stands now."""
        return await self._try(lambda: self._table.get(self._job_id))

    async def record(self, event: trainer_pb2.TrainingEvent) -> None:
        """Something happened."""
        await self._try(lambda: self._table.append(self._job_id, self._attempt, event))

    async def note(self, message: str) -> None:
        """A sentence about a job that runs on."""
        await self.record(state_event(RUNNING, message))

    async def beat(self) -> None:
        """A sign of life."""
        await self._try(lambda: self._table.beat(self._job_id, self._attempt))

    async def requeue(self, message: str, restarts: int) -> None:
        """Hand the job back; another attempt goes on."""
        await self._try(lambda: self._table.requeue(self._job_id, self._attempt, message, restarts))

    async def end(self, state: State, message: str = "", release_id: str = "") -> None:
        """The job has ended."""
        await self._try(lambda: self._table.end(self._job_id, self._attempt, state, message, release_id))

    async def has_validation(self, label: str) -> bool:
        """Whether an earlier attempt has measured this already."""
        after, events = 0, await self._events(0)
        while events:
            if any(event.validation_done.label == label for event in events):
                return True
            after = events[-1].sequence
            events = await self._events(after)
        return False

    async def _events(self, after: int) -> list[trainer_pb2.TrainingEvent]:
        return await self._try(lambda: self._table.events(self._job_id, after))

    async def _try(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        return await patiently(_STORE, self._patience, call)
