"""One set-up for every service: interceptors, health, reflection, limits, and a shutdown that drains.

A service is started by `run(settings, service, port)`; it reports SERVING only after its `start` has returned. After SIGTERM or
SIGINT it first reports NOT_SERVING, then lets running calls finish for `shutdown_grace` seconds, then stops.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Protocol

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client.core import Metric

from langptune.errors import FailedPrecondition, LangPTuneError
from langptune.rpc.interceptors import CallInterceptor
from langptune.rpc.logs import configure_logs
from langptune.rpc.metrics import MetricsDoor
from langptune.rpc.tls import Tls, door_tls
from langptune.rpc.tracing import server_interceptors, tracing
from langptune.settings import ServiceSettings

log = structlog.get_logger(__name__)

_INSIST = 1.0  # seconds between two cancellations of a start


class Service(Protocol):
    """What a service brings: its name, the proto services it serves, and how it comes up and goes down."""

    name: str  # "encoder"
    proto_services: Sequence[str]  # full names, e.g. "langptune.v1.EncoderService"

    async def start(self, server: grpc.aio.Server) -> None:
        """Load what is needed and add the servicers; the service is SERVING when this returns."""

    async def stop(self) -> None:
        """Release what `start` took; running calls have ended."""

    def state(self) -> Iterable[Metric]:
        """What is the case now, for a scrape: on another thread, from before `start` on, without waiting for anything."""


def run(
    settings: ServiceSettings,
    service: Service,
    port: int,
    *,
    metrics_port: int = 0,
    stopping: asyncio.Event | None = None,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> None:
    """Serve until SIGTERM or SIGINT. Exits with 2 and a sentence when a port is taken or the service cannot start.

    `stopping` is set before running calls are waited for, so that a service with endless streams can end them. `interceptors`
    are the service's own; they stand inside ours, so what they raise reaches the caller as a typed status. Metrics are served on
    `metrics_port`, unless that is 0, from before the start, so that a long load can be watched.
    """
    configure_logs(service.name, settings.log_level, settings.log_key.get_secret_value())
    with _observed(settings, service, metrics_port):
        asyncio.run(_serve(settings, service, port, stopping or asyncio.Event(), interceptors))


@contextmanager
def _observed(settings: ServiceSettings, service: Service, metrics_port: int) -> Iterator[None]:
    """Metrics and traces for the block, as far as they are wanted."""
    with ExitStack() as stack:
        try:
            if metrics_port:
                stack.enter_context(closing(MetricsDoor(settings.host, metrics_port, service.state)))
            stack.enter_context(tracing(service.name, settings.otlp_endpoint))
        except OSError as error:
            address = f"{settings.host}:{metrics_port}"
            sys.stderr.write(f"{service.name}: cannot listen on {address} for metrics: {error.strerror or error}\n")
            raise SystemExit(2) from None
        except FailedPrecondition as error:
            sys.stderr.write(f"{service.name}: cannot start: {error.message}\n")
            raise SystemExit(2) from None
        yield


async def _serve(
    settings: ServiceSettings,
    service: Service,
    port: int,
    stopping: asyncio.Event,
    interceptors: Sequence[grpc.aio.ServerInterceptor],
) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = grpc.aio.server(
        interceptors=[*server_interceptors(), CallInterceptor(), *interceptors], options=server_options(settings)
    )
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    if settings.environment == "development":
        reflection.enable_server_reflection([*service.proto_services, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    address = f"{settings.host}:{port}"
    try:
        _listen(server, address, door_tls(settings))
        health_only = await _health_server(settings, status)
    except FailedPrecondition as error:
        sys.stderr.write(f"{service.name}: cannot start: {error.message}\n")
        raise SystemExit(2) from None
    except RuntimeError:
        sys.stderr.write(f"{service.name}: cannot listen on {address}: the port is in use or not allowed\n")
        raise SystemExit(2) from None
    starting = asyncio.create_task(service.start(server))
    stop_early = asyncio.create_task(stopping.wait())
    await asyncio.wait((starting, stop_early), return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        _check_started(service, starting)
        await server.start()
        for name in ("", *service.proto_services):
            await status.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", address=address)
        await stop_early
        log.info("stopping", grace=settings.shutdown_grace)
        await status.enter_graceful_shutdown()
        await server.stop(settings.shutdown_grace)
    else:
        await _broken_off(starting)
    await service.stop()
    if health_only is not None:
        await health_only.stop(None)
    log.info("stopped")


async def _broken_off(starting: asyncio.Task[None]) -> None:
    """Return once a start has ended that is not wanted any more; a client that is connecting may swallow one cancellation."""
    while not starting.done():
        starting.cancel()
        await asyncio.wait((starting,), timeout=_INSIST)
    await asyncio.gather(starting, return_exceptions=True)


def _listen(server: grpc.aio.Server, address: str, tls: Tls | None) -> None:
    """Raises RuntimeError for an address that cannot be had, FailedPrecondition for files of `tls` that do not serve."""
    if tls is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, tls.server_credentials())


async def _health_server(settings: ServiceSettings, status: health.aio.HealthServicer) -> grpc.aio.Server | None:
    """Health alone, without TLS: the probes of a Kubernetes node bring no certificate."""
    if not settings.health_port:
        return None
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    server.add_insecure_port(f"{settings.host}:{settings.health_port}")
    await server.start()
    return server


def _check_started(service: Service, starting: asyncio.Task[None]) -> None:
    try:
        starting.result()
    except LangPTuneError as error:  # what an operator can mend; anything else is a defect and keeps its trace
        sys.stderr.write(f"{service.name}: cannot start: {error.message}\n")
        raise SystemExit(2) from None


def server_options(settings: ServiceSettings) -> list[tuple[str, int]]:
    """Message limits, no shared ports, and connections that are renewed so that clients see new replicas."""
    return [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.so_reuseport", 0),
        ("grpc.max_connection_age_ms", 600_000),
        ("grpc.max_connection_age_grace_ms", 600_000),
    ]
