"""The encoder and the decoder as the trainer calls them: two channels, and weights versions that are loaded and forgotten.

Rollouts and ranks are in `rollouts` and `rewards`.
"""

from __future__ import annotations

import asyncio

import structlog

from langptune.errors import FailedPrecondition, LangPTuneError
from langptune.rpc import open_channel
from langptune.v1 import decoder_pb2, decoder_pb2_grpc, encoder_pb2, encoder_pb2_grpc
from langptune.weights.store import Kind
from services.trainer.settings import TrainerSettings

log = structlog.get_logger(__name__)


class Peers:
    """Opens both channels at once; they connect on first use."""

    def __init__(self, settings: TrainerSettings) -> None:
        self._load_timeout = settings.load_timeout
        self._channels = [
            open_channel(address, timeout=settings.call_timeout, max_message_bytes=settings.max_message_bytes)
            for address in (settings.encoder_address, settings.decoder_address)
        ]
        self.encoder = encoder_pb2_grpc.EncoderServiceStub(self._channels[0])
        self.decoder = decoder_pb2_grpc.DecoderServiceStub(self._channels[1])

    async def close(self) -> None:
        """Close both channels."""
        await asyncio.gather(*(channel.close() for channel in self._channels))

    async def load(self, kind: Kind, version: str) -> None:
        """Return once the service can use `version`. Raises what LoadEncoderVersion and LoadDecoderVersion raise."""
        if kind == "encoder":
            request = encoder_pb2.LoadEncoderVersionRequest(encoder_version=version)
            await self.encoder.LoadEncoderVersion(request, timeout=self._load_timeout)
            return
        done = False
        load = decoder_pb2.LoadDecoderVersionRequest(decoder_version=version)
        async for progress in self.decoder.LoadDecoderVersion(load, timeout=self._load_timeout):
            done = progress.done
        if not done:
            raise FailedPrecondition(f"the decoder ended before version {version} was loaded", reason="VERSION_NOT_LOADED")

    async def loaded(self, kind: Kind) -> set[str]:
        """The versions that the service can use now."""
        if kind == "encoder":
            answer = await self.encoder.ListEncoderVersions(encoder_pb2.ListEncoderVersionsRequest())
            return set(answer.encoder_versions)
        listed = await self.decoder.ListDecoderVersions(decoder_pb2.ListDecoderVersionsRequest())
        return {entry.decoder_version for entry in listed.decoder_versions}

    async def forget(self, kind: Kind, version: str) -> None:
        """Unload `version`. A service that cannot be reached is left alone: what it holds ends with it."""
        try:
            if kind == "encoder":
                await self.encoder.UnloadEncoderVersion(encoder_pb2.UnloadEncoderVersionRequest(encoder_version=version))
            else:
                await self.decoder.UnloadDecoderVersion(decoder_pb2.UnloadDecoderVersionRequest(decoder_version=version))
        except LangPTuneError as error:
            log.warning("version not unloaded", kind=kind, version=version, error=error.message)
