"""The whole system on this machine: Redis, then encoder and decoder, then trainer, then gateway, each waited for and watched.

Each service is a child process with its log in <home>/logs/<service>.log. They are stopped in the reverse order, and die with us
if we are killed (`langptune.local.tether`). Restarting what has died is not done here: it is reported.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from grpc_health.v1 import health_pb2, health_pb2_grpc

from langptune.errors import DeadlineExceeded, LangPTuneError, Unavailable
from langptune.local.process import Child, exclusive, require_free_port
from langptune.local.redis import EmbeddedRedis
from langptune.local.settings import LocalSettings
from langptune.rpc import open_channel

START_ORDER = (("encoder", "decoder"), ("trainer",), ("gateway",))
_POLL = 0.1  # seconds between two health checks
_SERVING = health_pb2.HealthCheckResponse.SERVING

OnStarted = Callable[[str, str], None]  # (service, address)


class ServiceDied(LangPTuneError):
    """A service ended by itself; the message names it, its exit code, the last error of its log, and the log."""

    code = Unavailable.code


class LocalSystem:
    """All services while the `async with` block runs. Raises typed errors when one does not come up."""

    def __init__(
        self,
        settings: LocalSettings,
        *,
        environment: Mapping[str, str] | None = None,  # more LANGPTUNE_* settings for the services
        start_deadline: float = 180.0,  # seconds for each service to become SERVING
        grace: float = 75.0,  # seconds between SIGTERM and SIGKILL; the trainer lets its workers finish a step
        on_started: OnStarted = lambda service, address: None,
    ) -> None:
        self.settings = settings
        self._environment = dict(environment or {})
        self._deadline = start_deadline
        self._grace = grace
        self._on_started = on_started
        self._started: list[Child] = []
        self._watchers: list[asyncio.Task[Child]] = []
        self._lock = ExitStack()

    @property
    def gateway_address(self) -> str:
        """host:port of what clients talk to."""
        return self.settings.address("gateway")

    async def __aenter__(self) -> Self:
        try:
            self._lock.enter_context(exclusive(self.settings.home))
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def died(self) -> ServiceDied:
        """Wait until a service ends by itself, and say which."""
        done, _ = await asyncio.wait(self._watchers, return_when=asyncio.FIRST_COMPLETED)
        return _obituary(done.pop().result())

    async def stop(self) -> None:
        """SIGTERM in the reverse order of the start, Redis last; SIGKILL after the grace. Idempotent."""
        for watcher in self._watchers:
            watcher.cancel()
        for together in (*reversed(START_ORDER), ("redis",)):
            stopping = [child.stop(self._grace) for child in self._started if child.name in together]
            await asyncio.gather(*stopping)
        self._started.clear()
        self._lock.close()

    def pids(self) -> dict[str, int]:
        """Process ids of what was started, by name."""
        return {child.name: child.pid for child in self._started}

    async def _start(self) -> None:
        redis_url = self.settings.redis_url.get_secret_value() if self.settings.redis_url else await self._start_redis()
        environment = {**os.environ, **self.settings.environment(redis_url), **self._environment}
        for together in START_ORDER:
            for service in together:
                require_free_port(service, self.settings.port(service))
                if service == "gateway":
                    require_free_port("gateway's page", self.settings.gateway_http_port)
            for service in together:
                log = self.settings.home / "logs" / f"{service}.log"
                child = Child(service, [sys.executable, "-m", f"services.{service}"], log, environment)
                await child.start()
                self._watch(child)
            for service in together:
                await self._ready(service)

    async def _start_redis(self) -> str:
        home = self.settings.home
        server = EmbeddedRedis(home / "redis", self.settings.redis_port, home / "logs" / "redis.log")
        await server.start()
        if server.child:
            self._watch(server.child)
        self._on_started("redis", f"127.0.0.1:{server.port}")
        return server.url

    def _watch(self, child: Child) -> None:
        self._started.append(child)
        self._watchers.append(asyncio.create_task(_ended(child)))

    async def _ready(self, service: str) -> None:
        """Return once `service` is SERVING; raise if anything that was started dies, or time is up."""
        serving = asyncio.create_task(_serving(self.settings.address(service)))
        try:
            await asyncio.wait((serving, *self._watchers), timeout=self._deadline, return_when=asyncio.FIRST_COMPLETED)
        finally:
            serving.cancel()
        for watcher in self._watchers:
            if watcher.done():
                raise _obituary(watcher.result())
        if not serving.done() or serving.cancelled():
            log = self.settings.home / "logs" / f"{service}.log"
            raise DeadlineExceeded(f"{service} was not ready within {self._deadline:g} s; see {log}")
        self._on_started(service, self.settings.address(service))


async def _serving(address: str) -> None:
    channel = open_channel(address, timeout=5.0)
    stub_channel: Any = channel  # the stub asks for grpc's own channel type and uses only what ours has
    try:
        health = health_pb2_grpc.HealthStub(stub_channel)
        while True:
            try:
                if (await health.Check(health_pb2.HealthCheckRequest())).status == _SERVING:
                    return
            except (Unavailable, DeadlineExceeded):
                pass  # not up yet; the caller's deadline decides
            await asyncio.sleep(_POLL)
    finally:
        await channel.close()


async def _ended(child: Child) -> Child:
    await child.wait()
    return child


def _obituary(child: Child) -> ServiceDied:
    message = (
        f"{child.name} ended with exit code {child.exit_code}: {child.last_error() or 'it said nothing'} (log: {child.log_file})"
    )
    return ServiceDied(message, reason="SERVICE_DIED", metadata={"service": child.name})
