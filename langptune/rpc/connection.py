"""The gRPC channel beneath ours. With TLS it is opened anew when a file is replaced; what runs on the old one ends there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import structlog

from langptune.errors import FailedPrecondition
from langptune.rpc.tls import Stamp, Tls
from langptune.rpc.tracing import client_interceptors

log = structlog.get_logger(__name__)

_GRACE = 3_600.0  # seconds that calls on an old channel get


class Connection:
    """A channel to one address, or the newest of several to it."""

    def __init__(
        self, address: str, options: Sequence[tuple[str, str | int]] = (), tls: Tls | None = None, look: float = 5.0
    ) -> None:
        """`look`: seconds between two looks at the files. Raises FailedPrecondition for files of `tls` that do not serve."""
        self._address = address
        self._options = options
        self._tls = tls
        self._look = look
        self._inner = self._open()
        self._stamp: Stamp = tls.stamp() if tls else ()
        self._looked_at = time.monotonic()
        self._leaving: set[asyncio.Task[None]] = set()

    def current(self) -> grpc.aio.Channel:
        """The channel for a new call."""
        if self._tls and time.monotonic() - self._looked_at > self._look:
            self._looked_at = time.monotonic()
            self._renew(self._tls)
        return self._inner

    def bound(self, make: Callable[[grpc.aio.Channel], Any]) -> Callable[[], Any]:
        """What `make` makes of the channel, made again when there is a new one."""
        held = (self._inner, make(self._inner))

        def method() -> Any:
            nonlocal held
            inner = self.current()
            if inner is not held[0]:
                held = (inner, make(inner))
            return held[1]

        return method

    async def close(self) -> None:
        """Close it; running calls end as CANCELLED."""
        for leaving in self._leaving:
            leaving.cancel()
        await asyncio.gather(self._inner.close(), *self._leaving, return_exceptions=True)

    def _renew(self, tls: Tls) -> None:
        try:
            stamp = tls.stamp()
            if stamp == self._stamp:
                return
            renewed = self._open()
        except (OSError, FailedPrecondition) as error:
            log.warning("the new certificate is not taken up yet", address=self._address, error=str(error))
            return
        old, self._inner, self._stamp = self._inner, renewed, stamp
        leaving = asyncio.create_task(old.close(_GRACE))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    def _open(self) -> grpc.aio.Channel:
        traced = client_interceptors()
        if self._tls is None:
            return grpc.aio.insecure_channel(self._address, options=self._options, interceptors=traced)
        credentials = self._tls.channel_credentials()
        return grpc.aio.secure_channel(self._address, credentials, options=self._options, interceptors=traced)
