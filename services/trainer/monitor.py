"""Looks at Redis every few seconds for what the metrics tell: jobs, the events of those that run, the release, the publish.

The events are those that WatchTrainingJob tells, read from where the last look ended. A scrape waits for nothing: it gets the
last look, and how old it is. Runs only where metrics are served.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field, replace

import structlog
from redis.exceptions import RedisError

from langptune.errors import NotFound
from langptune.v1 import trainer_pb2
from langptune.weights import ReleaseRegistry
from services.trainer.jobs.job import RUNNING, Job, now_ms
from services.trainer.jobs.table import JobTable
from services.trainer.metrics import RunningJob, Seen
from services.trainer.publishing.publication import PublicationRecord

log = structlog.get_logger(__name__)


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
    """One per trainer."""

    def __init__(self, table: JobTable, registry: ReleaseRegistry, record: PublicationRecord, every: float) -> None:
        """`every`: seconds between two looks."""
        self._table = table
        self._registry = registry
        self._record = record
        self._every = every
        self._followed: dict[str, _Followed] = {}
        self._seen = Seen()
        self._looked = time.monotonic()

    def seen(self) -> Seen:
        """The last look that succeeded; from any thread."""
        return replace(self._seen, age_seconds=time.monotonic() - self._looked)

    async def run(self, stopping: asyncio.Event) -> None:
        """Look again and again until `stopping`; a Redis that is away makes what is told older, and nothing else."""
        while not stopping.is_set():
            try:
                await self.look()
            except RedisError as error:
                log.warning("metrics not read", error=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), self._every)

    async def look(self) -> None:
        """One look."""
        running = [job for job in await self._table.open_jobs() if job.state == RUNNING]
        self._followed = {job.job_id: self._followed.get(job.job_id, _Followed()) for job in running}
        self._seen = Seen(
            jobs_by_state=await self._table.count_by_state(),
            running=tuple([await self._follow(job) for job in running]),
            release=await self._release(),
            publish_open_seconds=await self._open_seconds(),
        )
        self._looked = time.monotonic()

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
