"""A child process that never outlives us, with its output in a file; and the ports that children listen on.

Children run in a session of their own, so that Ctrl-C reaches only the supervisor, which then stops them in order. What a child
serves is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from langptune.errors import FailedPrecondition

_TETHER = Path(__file__).with_name("tether.py")
_TAIL = 64 << 10  # bytes of a log that are searched for its last error


class Child:
    """One child process and its log. Start it once."""

    def __init__(self, name: str, command: Sequence[str], log_file: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log_file = log_file
        self._command = list(command)
        self._env = dict(env) if env is not None else None
        self._process: asyncio.subprocess.Process | None = None
        self._log_start = 0  # bytes of the log that earlier runs wrote

    async def start(self) -> None:
        """Start the process; its output is appended to the log file. Raises FailedPrecondition when that cannot be written."""
        try:
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            log = self.log_file.open("ab")
        except OSError as error:
            raise FailedPrecondition(f"{self.log_file} cannot be written: {error.strerror}", reason="STORAGE") from None
        with log:
            self._log_start = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *self._command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError before `start`."""
        return self._running().pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; below 0 for the signal that ended it."""
        return self._process.returncode if self._process else None

    async def wait(self) -> int:
        """The exit code, once it has ended."""
        return await self._running().wait()

    async def stop(self, grace: float) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds, to the child and to what it has started and left behind."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    def last_error(self) -> str:
        """The last error line of this run's log in plain words, or its last line, or ""."""
        with self.log_file.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _TAIL))
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [said for line in lines if (said := _error_of(line))]
        return errors[-1] if errors else (lines[-1].strip() if lines else "")

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` (made if need be) against every other process that does so; ends with the process at the latest.

    Raises FailedPrecondition when it is held, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("ab")
    except OSError as error:
        raise FailedPrecondition(f"{folder} cannot be written: {error.strerror}", reason="STORAGE") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedPrecondition(f"{folder} is in use by another `langptune up` or demo", reason="HOME_IN_USE") from None
        yield


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_free_port(name: str, port: int) -> None:
    """Raises FailedPrecondition when something listens on 127.0.0.1:`port` already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            message = f"{name} cannot listen on 127.0.0.1:{port} ({error.strerror}); choose another port or free this one"
            raise FailedPrecondition(message, reason="PORT_IN_USE", metadata={"service": name, "port": str(port)}) from None


def _error_of(line: str) -> str:
    """What a JSON log line of level error or critical says; "" for any other line."""
    try:
        entry = json.loads(line)
    except ValueError:
        return ""
    if not isinstance(entry, dict) or entry.get("level") not in ("error", "critical"):
        return ""
    trace = str(entry.get("exception", "")).strip().splitlines()
    return ": ".join(str(part) for part in (entry.get("event"), entry.get("error"), trace[-1] if trace else None) if part)
