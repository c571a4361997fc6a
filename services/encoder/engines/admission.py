"""The bounded queue in front of an engine: how many calls may run or wait at once. The same for every engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from langptune.errors import ResourceExhausted
from services.encoder import metrics


class Admission:
    """`places` calls at once; more are refused with the advice to come back after `retry_after` seconds."""

    def __init__(self, places: int, retry_after: float) -> None:
        self._places = places
        self._retry_after = retry_after
        self._taken = 0

    @property
    def taken(self) -> int:
        """Calls that have a place."""
        return self._taken

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for the block. Raises ResourceExhausted when there is none."""
        if self._taken >= self._places:
            metrics.REJECTED.inc()
            raise self.refusal(f"all {self._places:,} places of the encoder are taken")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    def refusal(self, message: str) -> ResourceExhausted:
        """What a caller is told who has to come back later."""
        return ResourceExhausted(message, retry_after=self._retry_after)
