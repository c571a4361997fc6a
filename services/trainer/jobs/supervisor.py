"""Keeps the job table true: starts waiting jobs in order, follows the workers, and deals with those that die.

A worker that died (killed, out of memory, a defect) is replaced `max_restarts` times, going on from the job's checkpoint; then
the job fails with a sentence. A worker that gives no sign of life for `worker_lost_seconds` is ended and counts as dead. When
the trainer stops, workers hand their jobs back as QUEUED, which costs no restart; the next trainer goes on with them.
When the trainer dies, its workers go on, and the next trainer follows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog
from redis.exceptions import RedisError

from langptune.errors import FailedPrecondition
from services.trainer.jobs.cleaning import Cleaner
from services.trainer.jobs.job import CANCELLED, FAILED, QUEUED, RUNNING, Job
from services.trainer.jobs.launcher import Launcher
from services.trainer.jobs.table import JobTable, Superseded
from services.trainer.settings import TrainerSettings

log = structlog.get_logger(__name__)


class Supervisor:
    """One per trainer; `run` is its life."""

    def __init__(self, jobs: JobTable, launcher: Launcher, cleaner: Cleaner, settings: TrainerSettings) -> None:
        self._jobs = jobs
        self._launcher = launcher
        self._cleaner = cleaner
        self._settings = settings
        self._wake = asyncio.Event()
        self._signs: dict[tuple[str, int], tuple[int, float]] = {}  # (job, attempt) -> sign of life, and when it was first seen

    def wake(self) -> None:
        """Look now: a job has come."""
        self._wake.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Look again and again until `stopping`, then have the workers hand their jobs back. Waits for a Redis that is away."""
        while not stopping.is_set():
            try:
                await self.look()
            except RedisError as error:
                self._signs.clear()  # nothing could be seen for a while: no one is late
                log.warning("job table not readable", error=str(error))
            except OSError as error:
                log.error("a job's leftovers could not be removed", error=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._settings.poll_seconds)
            self._wake.clear()
        try:
            await self._stop()
        except RedisError as error:
            log.warning("workers not stopped: job table not readable", error=str(error))

    async def look(self) -> None:
        """One look at all jobs that have not ended."""
        jobs = await self._jobs.open_jobs()
        running = [job for job in jobs if job.state == RUNNING]
        self._signs = {key: sign for key, sign in self._signs.items() if key in {(job.job_id, job.attempt) for job in jobs}}
        for job in running:
            await self._follow(job)
        free = self._settings.max_running_jobs - len(running)
        for job in [job for job in jobs if job.state == QUEUED][: max(0, free)]:
            await self._start(job)

    async def _stop(self) -> None:
        """Have the workers hand their jobs back; those that take longer than `worker_grace` seconds are ended."""
        running = [job for job in await self._jobs.open_jobs() if job.state == RUNNING]
        for job in running:
            await self._launcher.stop(job.job_id)
        end = time.monotonic() + self._settings.worker_grace
        await asyncio.gather(*(self._hand_back(job, end) for job in running))

    async def _hand_back(self, job: Job, end: float) -> None:
        if not await self._gone(job.job_id, end):
            log.warning("worker did not finish its step in time", job=job.job_id, grace=self._settings.worker_grace)
            await self._launcher.kill(job.job_id)
            await self._gone(job.job_id, time.monotonic() + 5.0)
        with contextlib.suppress(Superseded):  # the usual case: the worker has handed the job back itself
            message = (
                f"the trainer stops; the job goes on after its last checkpoint when it is back ({job.steps_done} steps done)"
            )
            await self._jobs.requeue(job.job_id, job.attempt, message, job.restarts)

    async def _gone(self, job_id: str, end: float) -> bool:
        while alive := await self._launcher.alive(job_id):
            if time.monotonic() > end:
                break
            await asyncio.sleep(0.05)
        return not alive

    async def _start(self, job: Job) -> None:
        if await self._launcher.alive(job.job_id):  # the worker that handed the job back, or failed, is on its way out
            await self._end_if_late(job)
            return
        started = await self._jobs.start(job)
        if started is None:
            return
        log.info("job starts", job=job.job_id, attempt=started.attempt)
        try:
            await self._launcher.launch(job.job_id, started.attempt, int(job.resolved.get("distributed.processes", "1")))
        except FailedPrecondition as error:
            await self._jobs.end(job.job_id, started.attempt, FAILED, f"no worker could be started: {error.message}")

    async def _follow(self, job: Job) -> None:
        if await self._launcher.alive(job.job_id):
            await self._end_if_late(job)
            return
        now = await self._jobs.get(job.job_id)  # it may have ended properly since the table was read
        if now.state == RUNNING and now.attempt == job.attempt:
            with contextlib.suppress(Superseded):
                await self._replace(now, await self._launcher.how_it_ended(job.job_id))

    async def _end_if_late(self, job: Job) -> None:
        if self._late(job):
            log.warning("worker gives no sign of life", job=job.job_id, attempt=job.attempt)
            await self._launcher.kill(job.job_id)

    async def _replace(self, job: Job, how: str) -> None:
        restarts = job.restarts + 1
        log.warning("worker died", job=job.job_id, attempt=job.attempt, how=how, restarts=job.restarts)
        if job.cancel_requested:
            await self._cleaner.clean(job.job_id)
            await self._jobs.end(job.job_id, job.attempt, CANCELLED, "cancelled")
        elif restarts > self._settings.max_restarts:
            await self._cleaner.clean_versions(job.job_id)
            message = (
                f"the worker {how} after {job.steps_done} of {job.steps_total} steps; it had been replaced {job.restarts} times"
            )
            await self._jobs.end(job.job_id, job.attempt, FAILED, f"{message}; the job's worker.log has the rest")
        else:
            message = f"the worker {how}; restart {restarts} of {self._settings.max_restarts} goes on from the checkpoint"
            await self._jobs.requeue(job.job_id, job.attempt, message, restarts)

    def _late(self, job: Job) -> bool:
        """By this trainer's own clock: how long ago it saw the sign of life change."""
        key, now = (job.job_id, job.attempt), time.monotonic()
        if self._signs.get(key, (None, now))[0] != job.heartbeat_ms:
            self._signs[key] = (job.heartbeat_ms, now)
        return now - self._signs[key][1] > self._settings.worker_lost_seconds
