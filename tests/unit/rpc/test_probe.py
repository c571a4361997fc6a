"""The health command of the images, against a real server."""

from __future__ import annotations

import asyncio
import sys

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from langptune.errors import LangPTuneError
from langptune.rpc import probe


async def test_what_a_service_says_of_itself() -> None:
    server = grpc.aio.server()
    told = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(told, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    address = f"127.0.0.1:{port}"
    await told.set("", health_pb2.HealthCheckResponse.SERVING)
    assert await probe.status(address, 10.0) == "SERVING"
    await told.enter_graceful_shutdown()
    assert await probe.status(address, 10.0) == "NOT_SERVING"
    await server.stop(None)
    with pytest.raises(LangPTuneError):
        await probe.status(address, 0.5)


async def test_the_command_ends_with_one_and_a_sentence() -> None:
    """Port 1 is nobody's."""
    command = [sys.executable, "-m", "langptune.rpc.probe", "127.0.0.1:1", "--timeout", "0.5"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, error = await process.communicate()
    assert process.returncode == 1
    assert error.decode().startswith("127.0.0.1:1: ")
    assert "Traceback" not in error.decode()
