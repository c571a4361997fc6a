"""Prometheus metrics: those of every RPC, and the HTTP door that they are scraped from.

Calls are counted by the server's interceptor with children made once for each method, some microseconds a
call. What a service *is* (sizes, queues, versions) is read when it is scraped, by a collector of its own, and costs nothing
otherwise. Every metric is declared in one module of its service (`services/<name>/metrics.py`) and defined in docs/operations.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import lru_cache

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

_METHOD = ("grpc_service", "grpc_method")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

HANDLED = Counter("grpc_server_handled", "Calls that have ended, by their status.", [*_METHOD, "grpc_code"])
SECONDS = Histogram(
    "grpc_server_handling_seconds",
    "From a call's arrival to its end; of streams: to the last message.",
    _METHOD,
    buckets=_SECONDS,
)
IN_FLIGHT = Gauge("grpc_server_in_flight", "Calls that have begun and not ended.", _METHOD)


class CallMeter:
    """The metrics of one method. One for each, from `meter`."""

    def __init__(self, method: str) -> None:
        """`method` as gRPC names it: "/langptune.v1.EncoderService/GenerateProfile"."""
        service, _, name = method.removeprefix("/").partition("/")
        self._labels = (service, name)
        self._seconds = SECONDS.labels(*self._labels)
        self._in_flight = IN_FLIGHT.labels(*self._labels)
        self._handled = lru_cache(maxsize=32)(lambda code: HANDLED.labels(*self._labels, code))
        self._handled("OK")  # a series from the first call on, so that an error rate has something to divide by

    def begin(self) -> float:
        """A call has begun; hand what this returns to `end`."""
        self._in_flight.inc()
        return time.perf_counter()

    def end(self, started: float, code: str) -> float:
        """The call has ended with this status; returns the seconds that it took."""
        seconds = time.perf_counter() - started
        self._in_flight.dec()
        self._seconds.observe(seconds)
        self._handled(code).inc()
        return seconds


@lru_cache(maxsize=512)
def meter(method: str) -> CallMeter:
    """The meter of a method that is served; there are as many as methods."""
    return CallMeter(method)


class State(Collector):
    """Families that are made anew at every scrape: `read` returns what is the case now, on the scraper's thread."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read."""
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._read()


class MetricsDoor:
    """The process's metrics at http://host:port/metrics, and the state of the service that runs in it."""

    def __init__(self, host: str, port: int, state: Callable[[], Iterable[Metric]]) -> None:
        """Listens at once. Raises OSError for an address that cannot be had."""
        disable_created_metrics()  # a gauge of the start beside every counter, which nothing here reads
        self._state = State(state)
        self._server, self._thread = start_http_server(port, host)
        REGISTRY.register(self._state)

    def close(self) -> None:
        """Stop listening."""
        REGISTRY.unregister(self._state)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
