"""The two slots as processes of this machine, each on a port of its own, running one configured command.

A slot outlives the trainer that started it: it answers users. Whether it lives is told by a file lock that it inherits; what it
was told to serve stands in a file beside, and its process writes its own id there before it becomes the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

from langptune.errors import FailedPrecondition
from services.trainer.publishing.slots import Slot
from services.trainer.settings import TrainerSettings

_ANNOUNCED = 'echo $$ > "$0"; exec "$@"'  # the shell becomes the server, under the id that it has written down


class LocalSlots:
    """Implements `services.trainer.publishing.slots.SlotLauncher`."""

    def __init__(self, settings: TrainerSettings) -> None:
        self._command = shlex.split(settings.tgi_command)
        self._folder = Path(settings.tgi_folder)
        self._ports = [port.strip() for port in settings.tgi_ports.split(",") if port.strip()]
        self._grace = settings.tgi_stop_seconds
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    async def start(self) -> None:
        """Raises FailedPrecondition for a folder that cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"the slots' folder {self._folder} cannot be written: {error.strerror}"
            raise FailedPrecondition(message, reason="STORAGE") from None

    async def close(self) -> None:
        """Nothing is held."""

    async def slots(self) -> list[Slot]:
        return [self._slot(port) for port in self._ports]

    async def bring_up(self, name: str, model: str) -> None:
        """Raises FailedPrecondition when the command cannot be run."""
        await self.stop(name)
        arguments = [part.format(model=model, port=name) for part in self._command]
        lock = self._open_lock(name)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file(name, "model").write_text(model)
            self._children[name] = self._run(name, arguments, lock)
        except OSError as error:  # BlockingIOError: another trainer was first
            raise FailedPrecondition(f"slot {name} cannot be started: {error.strerror}", reason="SLOT_FAILED") from None
        finally:
            os.close(lock)

    def _run(self, name: str, arguments: list[str], lock: int) -> subprocess.Popen[bytes]:
        with self._file(name, "log").open("ab") as log:
            return subprocess.Popen(
                ["/bin/sh", "-c", _ANNOUNCED, str(self._file(name, "pid")), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),
                start_new_session=True,
            )

    async def stop(self, name: str) -> None:
        """SIGTERM, and SIGKILL for it and its children when it takes too long."""
        end = time.monotonic() + self._grace
        told = False
        while self._lives(name):
            told = told or self._signal(name, signal.SIGTERM)  # one that has just begun has not written its id yet
            if time.monotonic() > end:
                self._signal(name, signal.SIGKILL)
            await asyncio.sleep(0.05)
        if child := self._children.pop(name, None):
            await asyncio.to_thread(child.wait)  # its lock is free, so it is ending
        for what in ("pid", "model"):
            self._file(name, what).unlink(missing_ok=True)

    def _slot(self, name: str) -> Slot:
        lives = self._lives(name)
        with contextlib.suppress(FileNotFoundError):
            return Slot(name, self._file(name, "model").read_text(), "" if lives else self._how_it_ended(name))
        return Slot(name, "")

    def _lives(self, name: str) -> bool:
        if child := self._children.get(name):
            child.poll()
        lock = self._open_lock(name)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def _how_it_ended(self, name: str) -> str:
        child = self._children.get(name)
        code = child.poll() if child else None
        if code is None:
            return "is gone"
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def _signal(self, name: str, number: signal.Signals) -> bool:
        """To its process group; whether it could be. While the lock is held, the id in the file is the slot's."""
        try:
            os.killpg(int(self._file(name, "pid").read_text()), number)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return False
        return True

    def _file(self, name: str, what: str) -> Path:
        return self._folder / f"slot-{name}.{what}"

    def _open_lock(self, name: str) -> int:
        return os.open(self._file(name, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
