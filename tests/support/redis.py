"""A real Redis for tests: one server per test session, empty at the start of every test that asks for it.

In a test: take the fixture `redis_url`. In a module of its own: `with running_redis(folder) as url`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from langptune.local.process import free_port
from langptune.local.redis import redis_command


@contextmanager
def running_redis(folder: Path, port: int | None = None) -> Iterator[str]:
    """A server with its files below `folder`; yields its URL once it answers."""
    process, url = start_redis(folder, port)
    try:
        yield url
    finally:
        process.terminate()
        process.wait(10)


def start_redis(folder: Path, port: int | None = None) -> tuple[subprocess.Popen[bytes], str]:
    """As `running_redis`, for callers that end the process themselves."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "redis.log").open("ab") as log:
        process = subprocess.Popen(redis_command(folder, port), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    _await_ping(url, process)
    return process, url


def _await_ping(url: str, process: subprocess.Popen[bytes]) -> None:
    with redis.Redis.from_url(url, socket_timeout=1.0) as client:
        end = time.monotonic() + 15
        while process.poll() is None and time.monotonic() < end:
            try:
                client.ping()
                return
            except redis.RedisError:
                time.sleep(0.02)
    raise RuntimeError(f"redis did not come up; exit code {process.poll()}")


@pytest.fixture(scope="session")
def redis_server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The session's server, with whatever earlier tests left in it."""
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """The session's server, empty."""
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushall()
    return redis_server_url
