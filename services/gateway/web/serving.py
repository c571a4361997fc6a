"""The HTTP server within the gateway's own loop: it comes up and goes down with the gRPC server, which handles the signals."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from langptune.errors import FailedPrecondition


class HttpServer:
    """One listening address."""

    def __init__(self, app: ASGIApp, host: str, port: int, grace: float) -> None:
        """`grace`: seconds that running requests get to end."""
        self._address = (host, port)
        seconds = max(1, round(grace))
        self._server = _Server(
            uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=seconds)
        )

    async def start(self) -> None:
        """Listen. Raises FailedPrecondition when the address cannot be had."""
        try:
            listening = socket.create_server(self._address)
        except OSError as error:
            host, port = self._address
            message = f"cannot listen on {host}:{port} for HTTP: {error.strerror or error}"
            raise FailedPrecondition(message, reason="PORT_UNAVAILABLE") from None
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))

    async def stop(self) -> None:
        """Let running requests end, then close."""
        self._server.should_exit = True
        await asyncio.gather(self._serving, return_exceptions=True)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the service's to handle."""
        yield
