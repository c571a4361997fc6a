"""Training jobs, for operators; a watched one is picked up again after a lost connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from langptune.client.connection import Connection
from langptune.client.paging import pages
from langptune.client.values.events import TrainingEvent, training_event_from_proto
from langptune.client.values.training import (
    TrainingJob,
    TrainingPlan,
    TrainingSpec,
    training_job_from_proto,
    training_plan_from_proto,
    training_spec_to_proto,
)
from langptune.errors import Unavailable
from langptune.v1 import trainer_pb2, trainer_pb2_grpc

WATCH_TIMEOUT = 7 * 86_400.0  # seconds; a job trains
_RECONNECTS = 5  # in a row, without an event between them


class TrainingCalls(Connection):
    """TrainerService."""

    @property
    def _trainer(self) -> trainer_pb2_grpc.TrainerServiceStub:
        return self._stub(trainer_pb2_grpc.TrainerServiceStub)

    async def create_training_job(self, spec: TrainingSpec, *, job_id: str = "", timeout: float | None = None) -> TrainingJob:
        """Start a job. Idempotent by `job_id`; raises AlreadyExists for the same id with another spec."""
        request = trainer_pb2.CreateTrainingJobRequest(spec=training_spec_to_proto(spec), job_id=job_id)
        return training_job_from_proto((await self._trainer.CreateTrainingJob(request, timeout=timeout)).job)

    async def plan_training_job(self, spec: TrainingSpec, *, timeout: float | None = None) -> TrainingPlan:
        """What the job would take; nothing is created. Raises what `create_training_job` raises, and FailedPrecondition for a
        model that no plan can be made for."""
        request = trainer_pb2.CreateTrainingJobRequest(spec=training_spec_to_proto(spec), validate_only=True)
        return training_plan_from_proto(await self._trainer.CreateTrainingJob(request, timeout=timeout))

    async def get_training_job(self, job_id: str, *, timeout: float | None = None) -> TrainingJob:
        """Raises NotFound."""
        request = trainer_pb2.GetTrainingJobRequest(job_id=job_id)
        return training_job_from_proto((await self._trainer.GetTrainingJob(request, timeout=timeout)).job)

    async def list_training_jobs(self, *, page_size: int = 20) -> AsyncIterator[TrainingJob]:
        """All jobs, newest first."""
        request = trainer_pb2.ListTrainingJobsRequest(page_size=page_size)
        async for response in pages(self._trainer.ListTrainingJobs, request):
            for job in response.jobs:
                yield training_job_from_proto(job)

    async def cancel_training_job(self, job_id: str, *, timeout: float | None = None) -> TrainingJob:
        """Ask a job to stop after the step in hand, or give up a failed one. Raises FailedPrecondition when it has succeeded."""
        request = trainer_pb2.CancelTrainingJobRequest(job_id=job_id)
        return training_job_from_proto((await self._trainer.CancelTrainingJob(request, timeout=timeout)).job)

    async def resume_training_job(
        self, job_id: str, *, guards: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> TrainingJob:
        """Let a failed job go on from its checkpoint, with other guards if given: `{"guards.kl.action": "warn"}`.

        Raises FailedPrecondition when it has not failed.
        """
        request = trainer_pb2.ResumeTrainingJobRequest(job_id=job_id, overrides=guards)
        return training_job_from_proto((await self._trainer.ResumeTrainingJob(request, timeout=timeout)).job)

    async def watch_training_job(
        self, job_id: str, *, after_sequence: int = 0, timeout: float | None = WATCH_TIMEOUT
    ) -> AsyncIterator[TrainingEvent]:
        """The job's events from after `after_sequence`, then live until the job ends; no event twice, none left out.

        A lost connection is taken up again where it broke, up to five times without an event; then raises Unavailable.
        """
        failures = 0
        while True:
            request = trainer_pb2.WatchTrainingJobRequest(job_id=job_id, after_sequence=after_sequence)
            try:
                async for response in self._trainer.WatchTrainingJob(request, timeout=timeout):
                    after_sequence, failures = response.event.sequence, 0
                    yield training_event_from_proto(response.event)
                return
            except Unavailable:
                failures += 1
                if failures > _RECONNECTS:
                    raise
            await asyncio.sleep(self._reconnect_pause * 2**failures)
