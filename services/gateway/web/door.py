"""The HTTP door: the page and JSON, in front of the gateway's own gRPC; the two meet at a socket that only this user reaches."""

from __future__ import annotations

from collections.abc import Iterable
from tempfile import TemporaryDirectory

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor

from langptune.rpc.tls import door_tls
from services.gateway.peers.channels import Channels
from services.gateway.settings import GatewaySettings
from services.gateway.web.application import application
from services.gateway.web.serving import HttpServer
from services.gateway.web.transcoding import ServiceApplication

log = structlog.get_logger(__name__)


class HttpDoor:
    """Open from `start` to `stop`."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._private = TemporaryDirectory(prefix="langptune-")
        self._http: HttpServer | None = None

    async def start(self, server: grpc.aio.Server, services: Iterable[ServiceDescriptor], channels: Channels) -> None:
        """Serve `services` of `server`, which must not run yet. Raises FailedPrecondition for an address that cannot be had."""
        settings = self._settings
        address = f"unix:{self._private.name}/grpc"
        server.add_insecure_port(address)
        own = channels.own(address)
        applications = [
            ServiceApplication(each, own, longest=settings.import_timeout, max_bytes=settings.max_message_bytes)
            for each in services
        ]
        app = application(applications, settings.gateway_http_hosts)
        tls = door_tls(settings)
        self._http = HttpServer(app, settings.host, settings.gateway_http_port, settings.shutdown_grace, tls)
        await self._http.start()
        scheme = "https" if tls else "http"
        log.info("serving the page", address=f"{scheme}://{settings.host}:{settings.gateway_http_port}")

    async def stop(self) -> None:
        """Let running requests end, then close."""
        if self._http is not None:
            await self._http.stop()
        self._private.cleanup()
