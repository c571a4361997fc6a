"""Whether a service serves: `python -m langptune.rpc.probe HOST:PORT` ends with 0 if it says so, else with 1 and a sentence.

For what can run a command and cannot ask gRPC health itself: a container engine's health check, an init script.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from langptune.errors import LangPTuneError
from langptune.rpc.channel import open_channel


async def status(address: str, timeout: float) -> str:
    """What the service at "host:port" says of itself: "SERVING", "NOT_SERVING", ... Raises Unavailable, DeadlineExceeded."""
    channel = open_channel(address, timeout=timeout)
    stub_channel: Any = channel  # the stub asks for grpc's own channel type and uses only what ours has
    try:
        answer = await health_pb2_grpc.HealthStub(stub_channel).Check(health_pb2.HealthCheckRequest())
    finally:
        await channel.close()
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name


def main() -> None:
    """Ask once."""
    parser = argparse.ArgumentParser(prog="python -m langptune.rpc.probe", description="Ask a service whether it serves.")
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="deadline of the question (default 5)")
    arguments = parser.parse_args()
    try:
        found = asyncio.run(status(arguments.address, arguments.timeout))
    except LangPTuneError as error:
        found = error.message
    if found != "SERVING":
        sys.stderr.write(f"{arguments.address}: {found}\n")
        raise SystemExit(1)


if __name__ == "__main__":
    main()
