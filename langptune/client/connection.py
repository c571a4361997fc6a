"""A connection to a gateway: its channel, and a stub for each of its services."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from langptune.rpc import open_channel
from langptune.rpc.tls import Tls

IMPORT_TIMEOUT = 3_600.0  # seconds; of calls that move or load very much
StubT = TypeVar("StubT")


class Connection:
    """Open within `async with`."""

    def __init__(
        self,
        address: str = "localhost:50051",
        *,
        token: str = "",
        tls: Tls | None = None,
        timeout: float = 30.0,
        reconnect_pause: float = 0.2,
    ) -> None:
        """Connects on first use; `timeout` seconds for every call that is given none of its own.

        `token` says who calls. `tls`: `Tls()` for a gateway with a certificate of a public authority, `Tls(authority="ca.pem")`
        for one of your own; without it the connection is plain.
        A watch that breaks is taken up again after `reconnect_pause` seconds, then after twice that, and so on.
        """
        self._address = address
        self._token = token
        self._tls = tls
        self._timeout = timeout
        self._reconnect_pause = reconnect_pause

    async def __aenter__(self) -> Self:
        self._channel = open_channel(self._address, timeout=self._timeout, token=self._token, tls=self._tls)
        self._stubs: dict[object, Any] = {}
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._channel.close()

    async def ready(self, timeout: float = 10.0) -> None:
        """Return once the gateway can be reached. Raises DeadlineExceeded."""
        await self._channel.ready(timeout)

    def _stub(self, kind: Callable[[Any], StubT]) -> StubT:
        """The stub of a service, made when it is first asked for."""
        if kind not in self._stubs:
            self._stubs[kind] = kind(self._channel)
        stub: StubT = self._stubs[kind]
        return stub
