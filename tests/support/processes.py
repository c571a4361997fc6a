"""Real service processes for tests: `python -m services.<name>` on a free port, ready when its health says so.

In a test: `with running_service("encoder", folder, {"LANGPTUNE_PROFILE_MODEL": ...}) as encoder:` then `encoder.address`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from langptune.local.process import free_port

ROOT = Path(__file__).parents[2]


@dataclass
class RunningService:
    """A service process. Its log is in `log_file`."""

    address: str  # host:port
    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    def log(self) -> str:
        """What it has written so far."""
        return self.log_file.read_text(errors="replace")

    def terminate(self, wait: float = 30.0) -> int:
        """SIGTERM; returns the exit code. SIGKILL and an AssertionError when it takes longer than `wait` seconds."""
        self.process.terminate()
        try:
            return self.process.wait(wait)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            raise AssertionError(f"did not end within {wait} s of SIGTERM:\n{self.log()[-2000:]}") from None

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(5)


@contextmanager
def running_service(
    name: str, folder: Path, env: Mapping[str, str], *, port: int | None = None, wait: float = 150.0
) -> Iterator[RunningService]:
    """`python -m services.<name>` with the settings of `env`, its log in `folder`; ends with SIGTERM if it still runs."""
    service = start_service(name, folder, env, port=port, wait=wait)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            service.terminate()


def start_service(
    name: str, folder: Path, env: Mapping[str, str], *, port: int | None = None, wait: float = 150.0
) -> RunningService:
    """As `running_service`, for callers that end the process themselves; `wait` 0 returns at once."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    log_file = folder / f"{name}-{port}.log"
    settings = {"LANGPTUNE_HOST": "127.0.0.1", f"LANGPTUNE_{name.upper()}_PORT": str(port), "OMP_NUM_THREADS": "1"}
    settings |= {"LANGPTUNE_GATEWAY_HTTP_PORT": "0", **env}
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{name}"], cwd=ROOT, env={**os.environ, **settings}, stdout=log, stderr=log
        )
    service = RunningService(f"127.0.0.1:{port}", process, log_file)
    if wait:
        await_serving(service, wait)
    return service


def await_serving(service: RunningService, wait: float = 150.0) -> None:
    """Return when the service says that it is ready. AssertionError with its log when it is not after `wait` seconds."""
    end = time.monotonic() + wait
    with grpc.insecure_channel(service.address, options=[("grpc.max_reconnect_backoff_ms", 200)]) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while service.process.poll() is None and time.monotonic() < end:
            try:
                if health.Check(health_pb2.HealthCheckRequest(), timeout=1.0).status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                time.sleep(0.05)
    service.process.send_signal(signal.SIGKILL)
    service.process.wait(5)
    raise AssertionError(f"not serving; exit code {service.process.returncode}:\n{service.log()[-3000:]}")
