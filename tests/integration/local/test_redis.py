"""The embedded Redis, as a real process."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
import redis.asyncio as redis

from langptune.errors import FailedPrecondition
from langptune.local import EmbeddedRedis
from langptune.local.process import free_port


async def test_acknowledged_write_survives_a_kill(tmp_path: Path) -> None:
    first = EmbeddedRedis(tmp_path, free_port())
    await first.start()
    assert first.child is not None
    async with redis.Redis.from_url(first.url) as client:
        await client.set("profile", "likes slow westerns")
    os.kill(first.child.pid, signal.SIGKILL)
    await first.child.wait()

    second = EmbeddedRedis(tmp_path, free_port())
    await second.start()
    try:
        async with redis.Redis.from_url(second.url) as client:
            assert await client.get("profile") == b"likes slow westerns"
    finally:
        await second.stop()


async def test_port_in_use_is_said_and_nothing_is_left_running(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = EmbeddedRedis(tmp_path, port)
        with pytest.raises(FailedPrecondition, match=f"redis cannot listen on 127.0.0.1:{port}") as caught:
            await server.start()
    assert caught.value.reason == "PORT_IN_USE"
    assert server.child is None


async def test_a_server_that_ends_at_once_is_reported_with_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").write_text("this is no append-only file\n")
    with pytest.raises(FailedPrecondition, match=r"redis ended with exit code 1: .*Bad file format"):
        await EmbeddedRedis(tmp_path, free_port()).start()
