"""Guards against reward hacking: figures of the policy's updates that must stay within limits.

A policy can raise its reward by what nobody wants: profiles that grow and grow, that repeat themselves, that copy the history,
that leave ordinary language (KL). A guard whose figure is beyond its limit in `patience` updates in a row fires: a warning, told
once until the figure has come back, or a stop. A loss or gradient that is not finite stops a run at once, in either phase: the
weights are lost. What a stop means for the job is the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from services.trainer.learning.config import Guard, GuardsConfig


@dataclass(frozen=True, slots=True)
class Alarm:
    """A guard has fired."""

    guard: str  # name of the metric
    value: float
    limit: float
    stops: bool
    message: str


class Guards:
    """Looks at every update, in order. The state is how many updates in a row each figure has been beyond its limit."""

    def __init__(self, config: GuardsConfig) -> None:
        self._config = config
        self._beyond: dict[str, int] = {}

    @property
    def quiet(self) -> bool:
        """No figure was beyond its limit in the last update."""
        return not self._beyond

    def look(self, phase: str, metrics: Mapping[str, float]) -> tuple[Alarm, ...]:
        """The alarms after one update; `metrics` by the names of `Progress.metrics`. Limits are for updates of the policy."""
        broken = [_not_finite(name, metrics[name]) for name in ("loss", "gradient_norm") if not math.isfinite(metrics[name])]
        if broken or phase != "rlso":
            return tuple(broken)
        fired = (self._one(name, guard, metrics[name]) for name, guard in self._config.by_metric().items() if name in metrics)
        return tuple(alarm for alarm in fired if alarm)

    def _one(self, name: str, guard: Guard, value: float) -> Alarm | None:
        limit = guard.broken_limit(value)
        if limit is None:
            self._beyond.pop(name, None)
            return None
        count = self._beyond[name] = self._beyond.get(name, 0) + 1
        stops = guard.action == "stop"
        if count < self._config.patience or (count > self._config.patience and not stops):
            return None
        side = "above" if value > limit else "below"
        message = f"{name} was {value:.4g}, {side} {limit:g}, the last of {count} such updates in a row"
        return Alarm(name, value, limit, stops, message)

    def state_dict(self) -> dict[str, int]:
        """For a checkpoint."""
        return dict(self._beyond)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """The opposite of `state_dict`."""
        self._beyond = dict(state)


def _not_finite(name: str, value: float) -> Alarm:
    return Alarm(name, value, math.inf, stops=True, message=f"{name} is {value}: the weights are lost")
