"""The worker process: one attempt at one job (`python -m services.trainer.worker --job ID --attempt N`).

Here are the process's own matters: settings, connections, signs of life, interruption, and how each kind of end is told. SIGTERM
finishes the step in hand, writes a checkpoint and hands the job back as QUEUED. A typed error ends the job as FAILED with its
sentence. Anything else is a defect: it ends the process with a trace in the job's log, and the supervisor sees a dead worker.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import uuid
from pathlib import Path

import structlog
import torch

from langptune.errors import LangPTuneError
from langptune.rpc.logs import configure_logs
from langptune.rpc.tracing import tracing
from langptune.state import open_redis
from langptune.weights import ReleaseRegistry, WeightsStore
from services.trainer.jobs.cleaning import Cleaner
from services.trainer.jobs.job import CANCELLED, FAILED, SUCCEEDED
from services.trainer.jobs.local_launcher import announce, die_with_parent
from services.trainer.jobs.table import JobTable, Superseded
from services.trainer.learning.team import Processes, dismiss, follow
from services.trainer.peers import Peers
from services.trainer.settings import TrainerSettings
from services.trainer.worker.journal import Journal
from services.trainer.worker.training import Interrupted, Training

log = structlog.get_logger(__name__)


class CancelRequested(Interrupted):
    """An operator called the job off."""


class StopRequested(Interrupted):
    """The process was told to end (SIGTERM)."""


class Worker:
    """One attempt. `run` returns when the job has ended or has been handed back."""

    def __init__(self, settings: TrainerSettings, job_id: str, attempt: int, processes: Processes | None = None) -> None:
        """`processes` are those that this one leads, if it is not alone."""
        self._settings = settings
        self._job_id = job_id
        self._redis = open_redis(settings)
        self._journal = Journal(JobTable(self._redis), job_id, attempt, settings.outage_seconds)
        self._peers = Peers(settings)
        self._store = WeightsStore(settings.weights_uri, settings.weights_cache)
        self._registry = ReleaseRegistry(self._redis)
        self._cleaner = Cleaner(settings, self._store, self._peers, self._registry)
        self._processes = processes
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Every end is written down after the job's leftovers are gone."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        beating = asyncio.create_task(self._beat())
        try:
            await self._attempt()
        except Superseded as error:
            log.warning("superseded", reason=str(error))
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            await self._peers.close()
            await self._redis.aclose()

    async def _attempt(self) -> None:
        try:
            release = await self._train()
        except CancelRequested:
            await self._cleaner.clean(self._job_id)
            await self._journal.end(CANCELLED, "cancelled")
        except StopRequested:
            job = await self._journal.job()
            await self._cleaner.clean_versions(self._job_id)
            message = f"the trainer stops; the job goes on after step {job.steps_done} of {job.steps_total} when it is back"
            await self._journal.requeue(message, job.restarts)
        except LangPTuneError as error:
            log.error("job failed", error=error.message, reason=error.reason)
            await self._fail(error.message)
        except OSError as error:
            log.error("job failed", exc_info=error)
            await self._fail(f"a file could not be read or written: {error.strerror or error}")
        else:
            await self._cleaner.clean(self._job_id)
            await self._journal.end(SUCCEEDED, release_id=release)

    async def _train(self) -> str:
        job = await self._journal.job()
        training = Training(
            job,
            self._settings,
            store=self._store,
            registry=self._registry,
            peers=self._peers,
            cleaner=self._cleaner,
            journal=self._journal,
            between_steps=self._between_steps,
            processes=self._processes,
        )
        return (await training.run()).release_id

    async def _fail(self, message: str) -> None:
        """The checkpoints stay: the job can be resumed."""
        await self._cleaner.clean_versions(self._job_id)
        await self._journal.end(FAILED, message)

    async def _between_steps(self) -> None:
        if (await self._journal.job()).cancel_requested:
            raise CancelRequested
        if self._stop.is_set():
            raise StopRequested

    async def _beat(self) -> None:
        """Signs of life until cancelled; an attempt that is over is noticed by the next thing that it records."""
        with contextlib.suppress(Superseded):
            while True:
                await self._journal.beat()
                await asyncio.sleep(self._settings.heartbeat_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.trainer.worker", description="One attempt at one training job.")
    parser.add_argument("--job", required=True, help="job id")
    parser.add_argument("--attempt", required=True, type=int, help="number of this attempt, from the job table")
    parser.add_argument("--processes", type=int, default=1, help="this many of them, started by torch.distributed.run")
    parser.add_argument("--lock-fd", type=int, help="file descriptor of the lock that says that this worker is alive")
    parser.add_argument("--pid-file", type=Path, help="of several processes, the one that leads writes its process id there")
    arguments = parser.parse_args()
    settings = TrainerSettings.load()
    configure_logs("trainer-worker", settings.log_level)
    structlog.contextvars.bind_contextvars(request_id=uuid.uuid4().hex, job=arguments.job, attempt=arguments.attempt)
    if arguments.lock_fd is not None:
        os.set_inheritable(arguments.lock_fd, False)  # the lock must not outlive this process in a child of ours
    torch.set_num_threads(settings.torch_threads)
    with tracing("trainer-worker", settings.otlp_endpoint):
        if arguments.processes == 1:
            asyncio.run(_work(settings, arguments.job, arguments.attempt))
        else:
            _work_together(settings, arguments.job, arguments.attempt, arguments.pid_file)


async def _work(settings: TrainerSettings, job_id: str, attempt: int, processes: Processes | None = None) -> None:
    await Worker(settings, job_id, attempt, processes).run()


def _work_together(settings: TrainerSettings, job_id: str, attempt: int, pid_file: Path | None) -> None:
    """Rank 0 is the job's worker; the others lend it their memory and arithmetic. A defect in one ends them all."""
    from services.trainer.learning.zero import ZeroProcesses  # DeepSpeed is an extra, for jobs of several processes

    die_with_parent()
    processes = ZeroProcesses()
    if processes.rank == 0:
        if pid_file is not None:
            announce(pid_file)
        asyncio.run(_work(settings, job_id, attempt, processes))
        dismiss(processes)
    else:
        follow(processes)
    processes.close()


if __name__ == "__main__":
    main()
