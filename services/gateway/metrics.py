"""The gateway's metrics, each defined in docs/operations.md.

What is said of the refresh queue comes out of Redis, so every gateway tells the same: aggregate with `max`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric

from langptune.rpc.breaker import Breaker, Circuit

if TYPE_CHECKING:
    from services.gateway.refresh.queue import Depth

_RECOMMENDATIONS = Counter(
    "langptune_gateway_recommendations", "Rankings by what they were made from: profile, history, popularity.", ["basis"]
)
RECOMMENDATIONS = {basis: _RECOMMENDATIONS.labels(basis) for basis in ("profile", "history", "popularity")}
_REFRESHES = Counter(
    "langptune_gateway_refreshes", "Attempts at queued profiles by outcome: written, postponed, given_up.", ["outcome"]
)
REFRESHES = {outcome: _REFRESHES.labels(outcome) for outcome in ("written", "postponed", "given_up")}
LIMITED = Counter("langptune_gateway_rate_limited", "Calls refused because a user or a program had used up its rate.")


_CIRCUITS = (Circuit.CLOSED, Circuit.HALF_OPEN, Circuit.OPEN)


def circuits(breakers: Iterable[Breaker]) -> Iterator[Metric]:
    """Whether the gateway's peers are called."""
    family = GaugeMetricFamily("langptune_gateway_circuit", "0 closed, 1 half open, 2 open.", labels=["peer"])
    for breaker in breakers:
        family.add_metric([breaker.peer], _CIRCUITS.index(breaker.state))
    yield family


def state(depth: Depth | None, age: float) -> Iterator[Metric]:
    """The families of a look at the queue that is `age` seconds old; nothing before the first."""
    queue = GaugeMetricFamily(
        "langptune_gateway_refresh_queue", "Profiles to be written: queued, running, delayed, dead.", labels=["state"]
    )
    lag = GaugeMetricFamily("langptune_gateway_refresh_lag_seconds", "Since the oldest of the queued and the running was queued.")
    if depth is not None:
        states = {"queued": depth.queued, "running": depth.running, "delayed": depth.delayed, "dead": depth.dead}
        for name, count in states.items():
            queue.add_metric([name], count)
        lag.add_metric([], depth.lag)
    yield from (queue, lag)
    yield GaugeMetricFamily("langptune_gateway_look_age_seconds", "Age of what is told of the refresh queue.", value=age)
