"""A circuit breaker for calls to one service: after failures in a row it answers in its place, until a probe gets through.

A failure is what says that the service cannot be reached or does not answer in time; any other answer, an error too, is a sign of
life. CLOSED lets every call through. OPEN refuses each with UNAVAILABLE (reason CIRCUIT_OPEN) for `rest` seconds. Then one call
at a time is let through (HALF_OPEN): its answer closes the circuit, its failure opens it again. Every change is logged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

import structlog

from langptune.errors import Cancelled, DeadlineExceeded, LangPTuneError, Unavailable

log = structlog.get_logger(__name__)


class Circuit(StrEnum):
    """Whether calls go through."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Breaker:
    """The circuit to `peer`. For one event loop."""

    def __init__(self, peer: str, *, failures: int = 5, rest: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        """`failures` in a row open it, for `rest` seconds."""
        self.peer = peer
        self.opened = 0  # times so far
        self._most = failures
        self._rest = rest
        self._clock = clock
        self._failures = 0
        self._open_until = 0.0
        self._state = Circuit.CLOSED
        self._probing = False

    @property
    def state(self) -> Circuit:
        """As the last call left it: an open circuit is half open with the first call after its rest."""
        return self._state

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around one call. Raises Unavailable in its place while the circuit is open; notes how it ends."""
        probe = self._enter()
        try:
            yield
        except (Unavailable, DeadlineExceeded):
            self._failed()
            raise
        except LangPTuneError as error:
            if not isinstance(error, Cancelled):
                self._answered()
            raise
        else:
            self._answered()
        finally:
            if probe:
                self._probing = False

    def _enter(self) -> bool:
        """Whether the call is a probe. Raises Unavailable."""
        if self._state is Circuit.CLOSED:
            return False
        left = self._open_until - self._clock()
        if left > 0 or self._probing:
            raise Unavailable(
                f"the {self.peer} does not answer; it is tried again in {max(left, 0):.0f} s",
                reason="CIRCUIT_OPEN",
                metadata={"peer": self.peer},
            )
        self._become(Circuit.HALF_OPEN)
        self._probing = True
        return True

    def _answered(self) -> None:
        self._failures = 0
        self._become(Circuit.CLOSED)

    def _failed(self) -> None:
        self._failures += 1
        if self._state is Circuit.HALF_OPEN or self._failures >= self._most:
            self._open_until = self._clock() + self._rest
            self._become(Circuit.OPEN)

    def _become(self, state: Circuit) -> None:
        if state is self._state:
            return
        self.opened += state is Circuit.OPEN
        self._state = state
        tell = log.info if state is Circuit.CLOSED else log.warning
        tell("circuit", peer=self.peer, state=state, failures=self._failures)
