"""One look at Redis for what the metrics tell: jobs, the events of those that run, the release, the publish.

The events are those that WatchTrainingJob tells, read from where the last look ended. How often is looked is said elsewhere
(`langptune.rpc.looking`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from langptune.errors import NotFound
from langptune.v1 import trainer_pb2
from langptune.weights import ReleaseRegistry
from services.trainer.jobs.job import RUNNING, Job, now_ms
from services.trainer.jobs.table import JobTable
from services.trainer.metrics import RunningJob, Seen
from services.trainer.publishing.publication import PublicationRecord


@dataclass(slots=True)
class _Followed:
    """What the events of a job have said so far."""

    after: int = 0  # sequence number of the newest event that was read
    steps: dict[str, dict[str, float]] = field(default_factory=dict)
    validation: dict[str, float] = field(default_factory=dict)

    def take(self, event: trainer_pb2.TrainingEvent) -> None:
        self.after = event.sequence
        if event.HasField("step_done"):
            self.steps[event.step_done.phase] = dict(event.step_done.metrics)
        elif event.HasField("validation_done"):
            self.validation[event.validation_done.label] = event.validation_done.metrics.ndcg


class Monitor:
    """What is asked at each look."""

    def __init__(self, table: JobTable, registry: ReleaseRegistry, record: PublicationRecord) -> None:
        self._table = table
        self._registry = registry
        self._record = record
        self._followed: dict[str, _Followed] = {}

    async def look(self) -> Seen:
        """One look. Raises redis errors."""
        running = [job for job in await self._table.open_jobs() if job.state == RUNNING]
        self._followed = {job.job_id: self._followed.get(job.job_id, _Followed()) for job in running}
        return Seen(
            jobs_by_state=await self._table.count_by_state(),
            running=tuple([await self._follow(job) for job in running]),
            release=await self._release(),
            publish_open_seconds=await self._open_seconds(),
        )

    async def _follow(self, job: Job) -> RunningJob:
        followed = self._followed[job.job_id]
        while events := await self._table.events(job.job_id, followed.after):
            for event in events:
                followed.take(event)
        silent = max(0.0, (now_ms() - job.heartbeat_ms) / 1_000)
        return RunningJob(job.job_id, job.steps_done, job.steps_total, silent, dict(followed.steps), dict(followed.validation))

    async def _release(self) -> dict[str, str]:
        try:
            live = await self._registry.live()
        except NotFound:
            return {}
        return {
            "release": live.release_id,
            "encoder_version": live.encoder_version,
            "decoder_version": live.decoder_version,
        }

    async def _open_seconds(self) -> float:
        publication = await self._record.read()
        if publication is None or publication.ended:
            return 0.0
        return (now_ms() - publication.start_ms) / 1_000
