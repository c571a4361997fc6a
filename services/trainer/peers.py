"""The encoder and the decoder as jobs call them: a channel to each, and versions loaded and forgotten on all of their replicas.

Jobs may have encoders of their own (`rollout_encoder_address`): an engine that takes new weights while it runs.
Rollouts and ranks are in `rollouts` and `rewards`.
"""

from __future__ import annotations

import asyncio

import structlog

from langptune.errors import LangPTuneError
from langptune.rpc import open_channel
from langptune.rpc.tls import peer_tls
from langptune.v1 import decoder_pb2_grpc, encoder_pb2_grpc
from langptune.weights.store import Kind
from services.trainer.publishing.replicas import Replicas
from services.trainer.settings import TrainerSettings

log = structlog.get_logger(__name__)


class Peers:
    """Opens both channels at once; they connect on first use."""

    def __init__(self, settings: TrainerSettings) -> None:
        rollouts = settings.rollout_encoder_address or settings.encoder_address
        self._replicas = Replicas(settings, rollouts)
        self._channels = [
            open_channel(
                address,
                timeout=settings.call_timeout,
                max_message_bytes=settings.max_message_bytes,
                tls=peer_tls(settings),
            )
            for address in (rollouts, settings.decoder_address)
        ]
        self.encoder = encoder_pb2_grpc.EncoderServiceStub(self._channels[0])
        self.decoder = decoder_pb2_grpc.DecoderServiceStub(self._channels[1])

    async def close(self) -> None:
        """Close both channels."""
        await asyncio.gather(self._replicas.close(), *(channel.close() for channel in self._channels))

    async def load(self, kind: Kind, version: str) -> None:
        """Return once every replica can use `version`. Raises what LoadEncoderVersion and LoadDecoderVersion raise."""
        await asyncio.gather(*(replica.load(version) for replica in await self._replicas.of(kind)))

    async def forget(self, kind: Kind, version: str) -> None:
        """Unload `version` everywhere. A replica that cannot be reached is left alone: what it holds ends with it."""
        try:
            await asyncio.gather(*(replica.unload(version) for replica in await self._replicas.of(kind)))
        except LangPTuneError as error:
            log.warning("version not unloaded", kind=kind, version=version, error=error.message)
