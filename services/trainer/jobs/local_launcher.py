"""Workers as processes of this machine.

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
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from langptune.errors import FailedPrecondition
from services.trainer.jobs.launcher import Life, Sighting

_LOCK = "worker.lock"
_LOG = "worker.log"


class LocalLauncher:
    """One folder per job below `folder`."""

    keeps_workers = False  # `langptune up` and a plain SIGTERM leave nothing behind

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder = folder
        self._threads = threads
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    async def start(self, on_change: Callable[[], None]) -> None:
        """Nothing is needed; news has to be looked for."""

    async def close(self) -> None:
        """Nothing is held."""

    async def launch(self, job_id: str, attempt: int, processes: int) -> None:
        """The child inherits the lock, so it is held from before its start until its end."""
        for child in self._children.values():
            child.poll()  # nobody looks at a finished job again: its process would stay a zombie as long as the trainer runs
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
            command = [*together, *worker, "--processes", str(processes), "--pid-file", str(self._folder / job_id / _LOCK)]
        return subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": str(self._threads), "TOKENIZERS_PARALLELISM": "false"},
        )

    async def see(self, job_id: str) -> Sighting:
        """How it ended is known only of workers that this trainer started."""
        if self._alive(job_id):
            return Sighting(Life.RUNNING)
        child = self._children.get(job_id)
        code = child.poll() if child else None
        if code is None:
            return Sighting(Life.GONE, "is gone")
        return Sighting(Life.GONE, f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}")

    def log_of(self, job_id: str) -> str:
        return f"the job's {_LOG}"

    def _alive(self, job_id: str) -> bool:
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
        self._signal(job_id, signal.SIGTERM)

    async def kill(self, job_id: str) -> None:
        """SIGKILL."""
        self._signal(job_id, signal.SIGKILL)

    def _signal(self, job_id: str, number: signal.Signals) -> None:
        if self._alive(job_id):  # the lock is held, so the process id in it is the worker's
            try:
                os.kill(int((self._folder / job_id / _LOCK).read_text()), number)
            except (ProcessLookupError, ValueError):
                return  # it ended in between, or the launcher is about to write the id


def announce(pid_file: Path) -> None:
    """In rank 0 of several processes: signals for the worker go to this process."""
    pid_file.write_text(str(os.getpid()))


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however it ends. Only Linux can; elsewhere nothing is done."""
    if sys.platform == "linux":
        set_signal_of_parents_death = 1
        ctypes.CDLL(None).prctl(set_signal_of_parents_death, signal.SIGKILL)


def _open_lock(folder: Path) -> int:
    return os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
