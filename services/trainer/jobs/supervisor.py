"""Keeps the job table true: starts waiting jobs in order, follows the workers, and deals with those that die.

A worker that died (killed, out of memory, a defect) is replaced `max_restarts` times, going on from the job's checkpoint; then
the job fails with a sentence. Losing a machine costs no restart, and what every attempt would meet is not tried again. A worker
that gives no sign of life for `worker_lost_seconds` is ended and counts as dead; one that waits for a machine is told of, not
ended. When the trainer dies, its workers go on, and the next trainer follows them. When it stops, so it is where the launcher
keeps workers; elsewhere they hand their jobs back as QUEUED, which costs no restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog
from redis.exceptions import RedisError

from langptune.errors import FailedPrecondition, LangPTuneError, Unavailable
from services.trainer.jobs.cleaning import Cleaner
from services.trainer.jobs.job import CANCELLED, FAILED, QUEUED, RUNNING, Job, state_event
from services.trainer.jobs.launcher import Fault, Launcher, Life, Sighting
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
        self._told: dict[tuple[str, int], str] = {}  # (job, attempt) -> what those who watch were told that it waits for
        self._asked: set[tuple[str, int]] = set()  # (job, attempt) that was asked to end, because its job is cancelled

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
            except LangPTuneError as error:
                self._signs.clear()
                log.warning("workers not seen to", error=error.message, reason=error.reason)
            except OSError as error:
                log.error("a job's leftovers could not be removed", error=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._settings.poll_seconds)
            self._wake.clear()
        if self._launcher.keeps_workers:
            return
        try:
            await self._stop()
        except RedisError as error:
            log.warning("workers not stopped: job table not readable", error=str(error))

    async def look(self) -> None:
        """One look at all jobs that have not ended."""
        jobs = await self._jobs.open_jobs()
        running = [job for job in jobs if job.state == RUNNING]
        self._forget({(job.job_id, job.attempt) for job in jobs})
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
        while not (gone := (await self._launcher.see(job_id)).life is Life.GONE):
            if time.monotonic() > end:
                break
            await asyncio.sleep(0.05)
        return gone

    async def _start(self, job: Job) -> None:
        seen = await self._launcher.see(job.job_id)
        if seen.life is Life.WAITING:  # of an attempt that is over: it has nothing to lose
            await self._launcher.kill(job.job_id)
        elif seen.life is Life.RUNNING:  # the worker that handed the job back, or failed, is on its way out
            await self._end_if_late(job)
        elif started := await self._jobs.start(job):
            await self._launch(started)

    async def _launch(self, job: Job) -> None:
        log.info("job starts", job=job.job_id, attempt=job.attempt)
        try:
            await self._launcher.launch(job.job_id, job.attempt, int(job.resolved.get("distributed.processes", "1")))
        except FailedPrecondition as error:
            await self._jobs.end(job.job_id, job.attempt, FAILED, f"no worker could be started: {error.message}")
        except Unavailable as error:  # if one has been started all the same, it finds that its attempt is over
            await self._jobs.requeue(job.job_id, job.attempt, f"no worker could be started yet: {error.message}", job.restarts)

    async def _follow(self, job: Job) -> None:
        seen = await self._launcher.see(job.job_id)
        if seen.life is Life.GONE:
            now = await self._jobs.get(job.job_id)  # it may have ended properly since the table was read
            if now.state == RUNNING and now.attempt == job.attempt:
                with contextlib.suppress(Superseded):
                    await self._replace(now, seen)
        elif job.cancel_requested and (job.job_id, job.attempt) not in self._asked:
            await self._launcher.stop(job.job_id)
            self._asked.add((job.job_id, job.attempt))
        elif seen.life is Life.RUNNING:
            await self._end_if_late(job)
        else:
            with contextlib.suppress(Superseded):
                await self._wait(job, seen)

    async def _wait(self, job: Job, seen: Sighting) -> None:
        """Tell what for, once; give up where it is in vain."""
        key = (job.job_id, job.attempt)
        self._signs.pop(key, None)  # nobody is late who has not begun
        if seen.fault is Fault.LASTING:
            await self._launcher.kill(job.job_id)
            await self._jobs.end(*key, FAILED, f"no worker could be started: {seen.why}")
        elif seen.why and self._told.get(key) != seen.why:
            await self._jobs.append(*key, state_event(RUNNING, f"the worker {seen.why}"))
            self._told[key] = seen.why

    def _forget(self, known: set[tuple[str, int]]) -> None:
        """All but the attempts that are `known`."""
        self._signs = {key: sign for key, sign in self._signs.items() if key in known}
        self._told = {key: why for key, why in self._told.items() if key in known}
        self._asked &= known

    async def _end_if_late(self, job: Job) -> None:
        if self._late(job):
            log.warning("worker gives no sign of life", job=job.job_id, attempt=job.attempt)
            await self._launcher.kill(job.job_id)

    async def _replace(self, job: Job, seen: Sighting) -> None:
        log.warning("worker died", job=job.job_id, attempt=job.attempt, how=seen.why, restarts=job.restarts)
        if job.cancel_requested:
            await self._cleaner.clean(job.job_id)
            await self._jobs.end(job.job_id, job.attempt, CANCELLED, "cancelled")
        elif seen.fault is Fault.PLATFORM:
            message = f"the worker {seen.why}; another one goes on from the checkpoint"
            await self._jobs.requeue(job.job_id, job.attempt, message, job.restarts)
        elif seen.fault is Fault.LASTING or job.restarts >= self._settings.max_restarts:
            await self._give_up(job, seen)
        else:
            restarts = job.restarts + 1
            message = f"the worker {seen.why}; restart {restarts} of {self._settings.max_restarts} goes on from the checkpoint"
            await self._jobs.requeue(job.job_id, job.attempt, message, restarts)

    async def _give_up(self, job: Job, seen: Sighting) -> None:
        await self._cleaner.clean_versions(job.job_id)
        message = f"the worker {seen.why} after {job.steps_done} of {job.steps_total} steps"
        if seen.fault is Fault.WORKER:
            message += f"; it had been replaced {job.restarts} times"
        await self._jobs.end(job.job_id, job.attempt, FAILED, f"{message}; {self._launcher.log_of(job.job_id)} has the rest")

    def _late(self, job: Job) -> bool:
        """By this trainer's own clock: how long ago it saw the sign of life change."""
        key, now = (job.job_id, job.attempt), time.monotonic()
        if self._signs.get(key, (None, now))[0] != job.heartbeat_ms:
            self._signs[key] = (job.heartbeat_ms, now)
        return now - self._signs[key][1] > self._settings.worker_lost_seconds
