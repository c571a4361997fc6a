"""The HTTP server within the gateway's own loop: it comes up and goes down with the gRPC server, which handles the signals."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from starlette.types import ASGIApp

from langptune.errors import FailedPrecondition
from langptune.rpc.tls import Tls

log = structlog.get_logger(__name__)

_LOOK = 5.0  # seconds between two looks at the certificate


class HttpServer:
    """One listening address."""

    def __init__(self, app: ASGIApp, host: str, port: int, grace: float, tls: Tls | None = None) -> None:
        """`grace`: seconds that running requests get to end."""
        self._address = (host, port)
        self._tls = tls
        self._config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=max(1, round(grace)),
            ssl_certfile=tls.certificate if tls else None,
            ssl_keyfile=tls.key if tls else None,
        )
        self._server = _Server(self._config)
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises FailedPrecondition when the address cannot be had, or the files of TLS do not serve."""
        if self._tls is not None:
            self._tls.check()
            self._renewing = asyncio.create_task(self._renew(self._tls))
        try:
            listening = socket.create_server(self._address)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else an answer's body waits 40 ms for an ACK
        except OSError as error:
            host, port = self._address
            message = f"cannot listen on {host}:{port} for HTTP: {error.strerror or error}"
            raise FailedPrecondition(message, reason="PORT_UNAVAILABLE") from None
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]))

    async def stop(self) -> None:
        """Let running requests end, then close."""
        self._server.should_exit = True
        if self._renewing is not None:
            self._renewing.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)

    async def _renew(self, tls: Tls) -> None:
        """Show a new certificate to new connections once its files are there."""
        seen = tls.stamp()
        while True:
            await asyncio.sleep(_LOOK)
            try:
                now = tls.stamp()
                if now != seen and self._config.ssl is not None:
                    tls.check()
                    self._config.ssl.load_cert_chain(tls.certificate, tls.key, password="")
                    seen = now
            except (OSError, FailedPrecondition) as error:
                log.warning("the new certificate is not taken up yet", error=str(error))


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the service's to handle."""
        yield
