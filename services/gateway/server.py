"""How the gateway comes up: connections, the core built on them, the servicers on top."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from tempfile import TemporaryDirectory

import grpc
import structlog
from prometheus_client.core import Metric

from langptune.rpc import Channel, open_channel
from langptune.rpc.breaker import Breaker
from langptune.rpc.looking import Looking
from langptune.rpc.tls import Tls, door_tls, peer_tls
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
from langptune.weights import ReleaseRegistry
from services.gateway import metrics
from services.gateway.accounts import Accounts
from services.gateway.durability import warn_if_weak
from services.gateway.identity.guard import Guard
from services.gateway.identity.keys import Keys, KeySet, SharedSecret
from services.gateway.identity.limits import Limiter
from services.gateway.identity.policy import check_complete
from services.gateway.identity.tokens import TokenChecker
from services.gateway.interactions.histories import Histories
from services.gateway.interactions.store import Interactions
from services.gateway.live import LiveRelease
from services.gateway.peers.decoder import Decoder
from services.gateway.peers.encoder import Encoder
from services.gateway.profiles.erasure import Erasures
from services.gateway.profiles.evidence import EvidenceFinder
from services.gateway.profiles.lengths import LengthCheck
from services.gateway.profiles.store import Profiles
from services.gateway.recommendations.avoid import AvoidPhrases
from services.gateway.recommendations.previews import Previewer
from services.gateway.recommendations.recommender import Recommender
from services.gateway.refresh.queue import Depth, RefreshQueue
from services.gateway.servicers.accounts import AccountServicer
from services.gateway.servicers.catalogue import CatalogServicer
from services.gateway.servicers.forwarding import forward
from services.gateway.servicers.interactions import InteractionServicer
from services.gateway.servicers.profiles import ProfileServicer
from services.gateway.servicers.recommendations import RecommendationServicer
from services.gateway.servicers.refresh_queue import RefreshQueueServicer
from services.gateway.settings import GatewaySettings
from services.gateway.web.application import application
from services.gateway.web.serving import HttpServer
from services.gateway.web.transcoding import ServiceApplication
from services.gateway.writing.worker import Patience, RefreshWorker
from services.gateway.writing.writer import Portions, ProfileWriter

log = structlog.get_logger(__name__)

_OWN = {**gateway_pb2.DESCRIPTOR.services_by_name, **refresh_pb2.DESCRIPTOR.services_by_name}
_PASSED_ON = trainer_pb2.DESCRIPTOR.services_by_name
_ACCOUNTS = account_pb2.DESCRIPTOR.services_by_name
SERVED = (*_OWN.values(), *_ACCOUNTS.values(), *_PASSED_ON.values())


class Gateway:
    """The gateway as `langptune.rpc` runs it."""

    name = "gateway"
    proto_services: Sequence[str] = [service.full_name for service in SERVED]

    def __init__(self, settings: GatewaySettings, stopping: asyncio.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._channels: list[Channel] = []
        self._http: HttpServer | None = None
        self._looking: Looking[Depth | None] | None = None
        self._look: asyncio.Task[None] | None = None
        self.breakers = {
            peer: Breaker(peer, failures=settings.breaker_failures, rest=settings.breaker_rest) for peer in ("encoder", "decoder")
        }
        self._private = TemporaryDirectory(prefix="langptune-")
        self._keys = _keys(settings)
        self._limiter = Limiter(
            (settings.gateway_limits_url or settings.redis_url).get_secret_value(),
            per_user=settings.gateway_user_rate,
            per_key=settings.gateway_key_rate,
        )

    @property
    def interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """What stands in front of the servicers."""
        settings = self._settings
        check_complete(SERVED)
        if settings.gateway_auth == "off":
            return []
        checker = TokenChecker(
            self._keys,
            issuer=settings.gateway_token_issuer,
            audience=settings.gateway_token_audience,
            leeway=settings.gateway_token_leeway,
        )
        return [Guard(checker, self._limiter)]

    async def start(self, server: grpc.aio.Server) -> None:
        """Needs no other service to be there: each is reached when a request asks for it.

        Raises FailedPrecondition for a key set that cannot be read, and for an HTTP address that cannot be had.
        """
        settings = self._settings
        if settings.gateway_auth == "jwt":
            await self._keys.load()
        else:
            log.warning("auth is off: everybody on this machine may do everything", host=settings.host)
        self._redis = open_redis(settings)
        await warn_if_weak(self._redis)
        to_encoder = self._peer(settings.encoder_address, self.breakers["encoder"])
        encoder = Encoder(to_encoder, settings.domain, settings.encoder_timeout)
        decoder = Decoder(self._peer(settings.decoder_address, self.breakers["decoder"]), settings.import_timeout)
        live = LiveRelease(ReleaseRegistry(self._redis))
        profiles = Profiles(self._redis, settings.revisions_kept)
        interactions = Interactions(self._redis, settings.history_kept)
        histories = Histories(interactions, decoder)
        erasures = Erasures(self._redis)
        queue = RefreshQueue(self._redis, settings.refresh_after)
        portions = Portions(settings.history_sent, settings.refresh_segment, settings.refresh_sentences)
        writer = ProfileWriter(profiles, histories, encoder, live, queue, erasures, portions)
        avoid = AvoidPhrases(self._redis)
        evidence = EvidenceFinder(
            self._redis,
            profiles,
            histories,
            decoder,
            live,
            threshold=settings.evidence_threshold,
            history_sent=settings.history_sent,
        )
        accounts = Accounts(interactions, histories, profiles, erasures, avoid, [queue, evidence])
        recommender = Recommender(self._redis, profiles, interactions, histories, decoder, live, avoid, settings.history_ranked)
        gateway_pb2_grpc.add_RecommendationServiceServicer_to_server(
            RecommendationServicer(recommender, Previewer(recommender, decoder)), server
        )
        gateway_pb2_grpc.add_ProfileServiceServicer_to_server(
            ProfileServicer(profiles, writer, live, avoid, evidence, queue, LengthCheck(decoder, live)), server
        )
        gateway_pb2_grpc.add_InteractionServiceServicer_to_server(
            InteractionServicer(interactions, histories, decoder, queue), server
        )
        gateway_pb2_grpc.add_CatalogServiceServicer_to_server(CatalogServicer(decoder), server)
        account_pb2_grpc.add_AccountServiceServicer_to_server(AccountServicer(accounts), server)
        refresh_pb2_grpc.add_RefreshQueueServiceServicer_to_server(RefreshQueueServicer(queue), server)
        patience = Patience(
            lease=settings.refresh_lease,
            attempts=settings.refresh_attempts,
            backoff=settings.refresh_backoff,
            block=min(1.0, settings.redis_timeout / 2),
        )
        self._worker = RefreshWorker(queue, writer, settings.refresh_workers, patience)
        self._worker.start()
        self._looking = Looking(queue.depth, None, settings.metrics_seconds)
        if settings.gateway_metrics_port:
            self._look = asyncio.create_task(self._looking.run(self._stopping))
        trainer = self._peer(settings.trainer_address)
        for service in _PASSED_ON.values():
            forward(server, service, trainer, self._stopping)
        if settings.gateway_http_port:
            await self._open_http(server)

    async def stop(self) -> None:
        """Close the connections."""
        await self._worker.stop()
        if self._look is not None:
            self._stopping.set()
            await self._look
        if self._http is not None:
            await self._http.stop()
        for channel in self._channels:
            await channel.close()
        await self._redis.aclose()
        await self._limiter.close()
        self._private.cleanup()

    def state(self) -> Iterator[Metric]:
        """Whether peers are called, and the refresh queue as the last look found it."""
        yield from metrics.circuits(self.breakers.values())
        if self._looking:
            yield from metrics.state(*self._looking.seen())

    async def _open_http(self, server: grpc.aio.Server) -> None:
        """The page and JSON, in front of the gateway's own gRPC; the two meet at a socket that only this user reaches."""
        settings = self._settings
        address = f"unix:{self._private.name}/grpc"
        server.add_insecure_port(address)
        own = self._open(address)
        services = [
            ServiceApplication(each, own, longest=settings.import_timeout, max_bytes=settings.max_message_bytes)
            for each in SERVED
        ]
        app = application(services, settings.gateway_http_hosts)
        tls = door_tls(settings)
        self._http = HttpServer(app, settings.host, settings.gateway_http_port, settings.shutdown_grace, tls)
        await self._http.start()
        scheme = "https" if tls else "http"
        log.info("serving the page", address=f"{scheme}://{settings.host}:{settings.gateway_http_port}")

    def _peer(self, address: str, breaker: Breaker | None = None) -> Channel:
        return self._open(address, breaker, peer_tls(self._settings))

    def _open(self, address: str, breaker: Breaker | None = None, tls: Tls | None = None) -> Channel:
        settings = self._settings
        channel = open_channel(
            address,
            timeout=settings.call_timeout,
            max_message_bytes=settings.max_message_bytes,
            breaker=breaker,
            tls=tls,
        )
        self._channels.append(channel)
        return channel


def _keys(settings: GatewaySettings) -> Keys:
    if settings.gateway_jwks:
        return KeySet(settings.gateway_jwks)
    return SharedSecret(settings.gateway_jwt_secret.get_secret_value())
