"""How a worker process comes to be, is followed, and is ended: the launcher port, and the launcher for this machine.

A worker outlives the trainer that started it: it runs in a session of its own and logs into its job's folder. Whether it is
alive is told by a file lock that it holds, not by a process id: the kernel drops the lock when the process ends, however it
ends, so any later trainer can ask, and no two workers can ever train the same job on this machine. Trainers on several machines
need another launcher.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from langptune.errors import FailedPrecondition

_LOCK = "worker.lock"
_LOG = "worker.log"


class Launcher(Protocol):
    """Starts and ends workers; a later trainer finds the workers of an earlier one through it."""

    async def launch(self, job_id: str, attempt: int, processes: int) -> None:
        """Start a worker of that many processes. Raises FailedPrecondition when one is alive already or none can be started."""

    async def alive(self, job_id: str) -> bool:
        """Whether the job's worker still runs."""

    async def stop(self, job_id: str) -> None:
        """Ask the worker to finish its step, write a checkpoint and hand the job back."""

    async def kill(self, job_id: str) -> None:
        """End the worker at once."""

    async def how_it_ended(self, job_id: str) -> str:
        """Half a sentence on a worker that is not alive: "was ended by signal 9"."""


class LocalLauncher:
    """Workers as processes of this machine; one folder per job below `folder`."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder = folder
        self._threads = threads
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    async def launch(self, job_id: str, attempt: int, processes: int) -> None:
        """The child inherits the lock, so it is held from before its start until its end."""
        if processes > 1 and find_spec("deepspeed") is None:
            raise FailedPrecondition("several processes need DeepSpeed: pip install '.[distributed]'", reason="NO_DEEPSPEED")
        folder = self._folder / job_id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _open_lock(folder)
            log = (folder / _LOG).open("ab")
        except OSError as error:
            raise FailedPrecondition(f"the job's folder {folder} cannot be written: {error.strerror}", reason="STORAGE") from None
        try:
            with log:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                process = self._start(job_id, attempt, processes, lock, log.fileno())
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(process.pid).encode(), 0)
        except BlockingIOError:
            raise FailedPrecondition(f"a worker of job {job_id!r} is still running", reason="WORKER_RUNNING") from None
        finally:
            os.close(lock)
        self._children[job_id] = process

    def _start(self, job_id: str, attempt: int, processes: int, lock: int, log: int) -> subprocess.Popen[bytes]:
        """One process holds the lock itself; of several, torch.distributed.run holds it, which lives as long as any of them."""
        worker = ["-m", "services.trainer.worker", "--job", job_id, "--attempt", str(attempt)]
        if processes == 1:
            command = [*worker, "--lock-fd", str(lock)]
        else:
            together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
            command = [*together, *worker, "--processes", str(processes)]
        return subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": str(self._threads), "TOKENIZERS_PARALLELISM": "false"},
        )

    async def alive(self, job_id: str) -> bool:
        """Whether somebody holds the lock."""
        if child := self._children.get(job_id):
            child.poll()
        try:
            lock = _open_lock(self._folder / job_id)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    async def stop(self, job_id: str) -> None:
        """SIGTERM."""
        await self._signal(job_id, signal.SIGTERM)

    async def kill(self, job_id: str) -> None:
        """SIGKILL."""
        await self._signal(job_id, signal.SIGKILL)

    async def how_it_ended(self, job_id: str) -> str:
        """Known only of workers that this trainer started."""
        child = self._children.get(job_id)
        code = child.poll() if child else None
        if code is None:
            return "is gone"
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"

    async def _signal(self, job_id: str, number: signal.Signals) -> None:
        if await self.alive(job_id):  # the lock is held, so the process id in it is the worker's
            try:
                os.kill(int((self._folder / job_id / _LOCK).read_text()), number)
            except (ProcessLookupError, ValueError):
                return  # it ended in between, or the launcher is about to write the id


def announce(folder: Path) -> None:
    """In rank 0 of several processes: signals for the worker of this job go to this process."""
    lock = _open_lock(folder)
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    finally:
        os.close(lock)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however it ends. Only Linux can; elsewhere nothing is done."""
    if sys.platform == "linux":
        set_signal_of_parents_death = 1
        ctypes.CDLL(None).prctl(set_signal_of_parents_death, signal.SIGKILL)


def _open_lock(folder: Path) -> int:
    return os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
