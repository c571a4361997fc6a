"""Writes queued profiles beside the requests, in the gateway's own process.

Delivery is at least once: a worker holds a lease on its job and renews it while it writes; when its process dies, another worker
takes the job over. A profile is stored by compare-and-set, so of two workers at the same job one is refused. A failure is tried
again after a growing pause, up to `attempts` times; then the job is dead until an operator replays it.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
from dataclasses import dataclass

import structlog
from redis.exceptions import RedisError

from langptune.errors import Cancelled, Internal, InvalidArgument, LangPTuneError, NotFound, ResourceExhausted
from langptune.state import typed_redis_error
from services.gateway import metrics
from services.gateway.refresh.queue import Job, RefreshQueue
from services.gateway.writing.writer import ProfileWriter

log = structlog.get_logger(__name__)

_LONGEST = 600.0  # seconds between two attempts
_PAUSE = 3.0  # seconds after a failure of Redis


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what."""

    lease: float = 30.0  # seconds of silence after which a worker counts as dead
    attempts: int = 5
    backoff: float = 2.0  # seconds before the second attempt; four times as long before each further one
    block: float = 1.0  # seconds that one question for work may wait; less than the deadline of a Redis command

    def delay(self, attempt: int, error: LangPTuneError) -> float:
        """Seconds before the attempt after this one, a fifth more or less."""
        least = error.retry_after if isinstance(error, ResourceExhausted) else 0.0
        grown = min(_LONGEST, self.backoff * 4.0 ** (attempt - 1))
        return float(max(least, grown) * random.uniform(0.8, 1.2))  # spread, so that what failed together does not return so


class RefreshWorker:
    """`workers` profiles at a time, until it is stopped."""

    def __init__(self, queue: RefreshQueue, writer: ProfileWriter, workers: int, patience: Patience) -> None:
        self._queue = queue
        self._writer = writer
        self._workers = workers
        self._patience = patience
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work; needs Redis only once it is there."""
        process = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._tasks = [asyncio.create_task(self._work(f"{process}-{number}")) for number in range(self._workers)]

    async def stop(self) -> None:
        """Hand back what is not finished."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self, consumer: str) -> None:
        while True:
            try:
                job = await self._queue.take(consumer, self._patience.lease, self._patience.block)
                if job is not None:
                    await self._run(job, consumer)
            except RedisError as error:  # what was taken comes back when its lease is over
                log.warning("refresh queue not reachable", error=str(error))
                await asyncio.sleep(_PAUSE)
            except asyncio.CancelledError:
                await asyncio.gather(self._queue.leave(consumer), return_exceptions=True)
                raise

    async def _run(self, job: Job, consumer: str) -> None:
        if job.attempt > self._patience.attempts:
            await self._queue.bury(job, Cancelled("its worker ended without a word at every attempt"))
            return
        writing = asyncio.create_task(self._write(job))
        holding = asyncio.create_task(self._hold(job, consumer))
        try:
            await asyncio.wait((writing, holding), return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                await self._account(job, writing.exception())
            else:
                log.warning("refresh taken over", user_id=job.user_id, attempt=job.attempt)
        except asyncio.CancelledError:
            await self._queue.release(job)
            raise
        finally:
            writing.cancel()
            holding.cancel()
            await asyncio.gather(writing, holding, return_exceptions=True)

    async def _write(self, job: Job) -> None:
        await self._writer.refresh(job.user_id, incremental=True)

    async def _hold(self, job: Job, consumer: str) -> None:
        """Ends when the job is another's; while Redis is away nobody else can take it."""
        while True:
            await asyncio.sleep(self._patience.lease / 3)
            try:
                if not await self._queue.hold(job, consumer):
                    return
            except RedisError as error:
                log.warning("refresh lease not renewed", user_id=job.user_id, error=str(error))

    async def _account(self, job: Job, failure: BaseException | None) -> None:
        """Whatever came of it; a success was settled when the profile was stored."""
        if failure is None:
            metrics.REFRESHES["written"].inc()
            log.info("refreshed", user_id=job.user_id, attempt=job.attempt)
            return
        error = _typed(failure)
        if isinstance(error, NotFound) and error.resource == "history":  # it is there no more: nothing to write
            await self._queue.forget(job.user_id)
        elif isinstance(error, InvalidArgument) or job.attempt >= self._patience.attempts:
            metrics.REFRESHES["given_up"].inc()
            log.error("refresh given up", user_id=job.user_id, attempt=job.attempt, code=error.code.name, error=error.message)
            await self._queue.bury(job, error)
        else:
            delay = self._patience.delay(job.attempt, error)
            metrics.REFRESHES["postponed"].inc()
            log.warning("refresh failed", user_id=job.user_id, attempt=job.attempt, error=error.message, again_in=round(delay, 1))
            await self._queue.postpone(job, error, delay)


def _typed(failure: BaseException) -> LangPTuneError:
    if isinstance(failure, LangPTuneError):
        return failure
    if isinstance(failure, RedisError):
        return typed_redis_error(failure)
    log.error("refresh broke", exc_info=failure)
    return Internal("a defect; the gateway's log has the rest")
