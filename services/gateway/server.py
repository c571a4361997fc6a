"""How the gateway comes up: the entrance, the core on its connections, the servicers on top, the HTTP door in front."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

import grpc
from prometheus_client.core import Metric

from langptune.rpc.looking import Looking
from langptune.state import open_redis
from langptune.v1 import (
    account_pb2,
    account_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
    refresh_pb2,
    refresh_pb2_grpc,
    trainer_pb2,
)
from services.gateway import metrics
from services.gateway.core import Core
from services.gateway.durability import warn_if_weak
from services.gateway.identity.entrance import Entrance
from services.gateway.peers.channels import Channels
from services.gateway.refresh.queue import Depth
from services.gateway.servicers.accounts import AccountServicer
from services.gateway.servicers.catalogue import CatalogServicer
from services.gateway.servicers.forwarding import forward
from services.gateway.servicers.interactions import InteractionServicer
from services.gateway.servicers.profiles import ProfileServicer
from services.gateway.servicers.recommendations import RecommendationServicer
from services.gateway.servicers.refresh_queue import RefreshQueueServicer
from services.gateway.settings import GatewaySettings
from services.gateway.web.door import HttpDoor

_OWN = [service for file in (gateway_pb2, refresh_pb2, account_pb2) for service in file.DESCRIPTOR.services_by_name.values()]
_PASSED_ON = list(trainer_pb2.DESCRIPTOR.services_by_name.values())
SERVED = (*_OWN, *_PASSED_ON)


class Gateway:
    """The gateway as `langptune.rpc` runs it."""

    name = "gateway"
    proto_services: Sequence[str] = [service.full_name for service in SERVED]

    def __init__(self, settings: GatewaySettings, stopping: asyncio.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._entrance = Entrance(settings)
        self._channels = Channels(settings)
        self._opened = AsyncExitStack()  # what is to be closed, the last first
        self._looking: Looking[Depth | None] | None = None

    @property
    def interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """What stands in front of the servicers."""
        return self._entrance.interceptors(SERVED)

    async def start(self, server: grpc.aio.Server) -> None:
        """Needs no other service to be there: each is reached when a request asks for it.

        Raises FailedPrecondition for a key set that cannot be read, and for an HTTP address that cannot be had.
        """
        settings, opened = self._settings, self._opened
        opened.push_async_callback(self._entrance.close)
        await self._entrance.open()
        client = open_redis(settings)
        opened.push_async_callback(client.aclose)
        await warn_if_weak(client)
        opened.push_async_callback(self._channels.close)
        core = Core(settings, client, self._channels.encoder(), self._channels.decoder())
        _add_servicers(core, server)
        trainer = self._channels.trainer()
        for service in _PASSED_ON:
            forward(server, service, trainer, self._stopping)
        if settings.gateway_http_port:
            door = HttpDoor(settings)
            opened.push_async_callback(door.stop)
            await door.start(server, SERVED, self._channels)
        self._looking = Looking(core.queue.depth, None, settings.metrics_seconds)
        if settings.gateway_metrics_port:
            opened.push_async_callback(self._end, asyncio.create_task(self._looking.run(self._stopping)))
        opened.push_async_callback(core.worker.stop)
        core.worker.start()

    async def stop(self) -> None:
        """Hand back what is not written, then close all that was opened."""
        await self._opened.aclose()

    def state(self) -> Iterator[Metric]:
        """Whether peers are called, and the refresh queue as the last look found it."""
        yield from metrics.circuits(self._channels.breakers)
        if self._looking:
            yield from metrics.state(*self._looking.seen())

    async def _end(self, look: asyncio.Task[None]) -> None:
        self._stopping.set()
        await look


def _add_servicers(core: Core, server: grpc.aio.Server) -> None:
    recommendations = RecommendationServicer(core.recommender, core.previewer)
    profiles = ProfileServicer(core.profiles, core.writer, core.live, core.avoid, core.evidence, core.queue, core.lengths)
    interactions = InteractionServicer(core.interactions, core.histories, core.decoder, core.queue)
    gateway_pb2_grpc.add_RecommendationServiceServicer_to_server(recommendations, server)
    gateway_pb2_grpc.add_ProfileServiceServicer_to_server(profiles, server)
    gateway_pb2_grpc.add_InteractionServiceServicer_to_server(interactions, server)
    gateway_pb2_grpc.add_CatalogServiceServicer_to_server(CatalogServicer(core.decoder), server)
    account_pb2_grpc.add_AccountServiceServicer_to_server(AccountServicer(core.accounts), server)
    refresh_pb2_grpc.add_RefreshQueueServiceServicer_to_server(RefreshQueueServicer(core.queue), server)
