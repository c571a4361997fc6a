"""Puts the encoder service together: weights store, engine, servicer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import grpc
import structlog
from prometheus_client.core import Metric

from langptune.v1 import encoder_pb2
from langptune.v1.encoder_pb2_grpc import add_EncoderServiceServicer_to_server
from langptune.weights import WeightsStore
from services.encoder import metrics
from services.encoder.engines.port import Engine
from services.encoder.servicer import EncoderServicer
from services.encoder.settings import EncoderSettings

log = structlog.get_logger(__name__)


class EncoderService:
    """Implements `langptune.rpc.Service`; SERVING means that an engine has weights and can write."""

    name = "encoder"
    proto_services: Sequence[str] = (encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"].full_name,)

    def __init__(self, settings: EncoderSettings) -> None:
        self._settings = settings
        self._engine: Engine | None = None

    async def start(self, server: grpc.aio.Server) -> None:
        """Register and start the engine. Raises FailedPrecondition when there is no model."""
        store = WeightsStore(self._settings.weights_uri, self._settings.weights_cache)
        base = await asyncio.to_thread(store.ensure_base, "encoder", self._settings.profile_model)
        self._engine = await asyncio.to_thread(_open_engine, self._settings, store)
        await self._engine.start(base.version)
        log.info("loaded", engine=self._settings.encoder_engine, encoder_versions=self._engine.versions())
        add_EncoderServiceServicer_to_server(EncoderServicer(self._engine, store, self._settings, base.version), server)

    async def stop(self) -> None:
        """Release the model and the threads."""
        if self._engine is not None:
            await self._engine.close()

    def state(self) -> Iterable[Metric]:
        """How busy the engine is."""
        return metrics.state(self._engine)


def _open_engine(settings: EncoderSettings, store: WeightsStore) -> Engine:
    # Imported here: torch takes seconds, and a taken port or a missing model is told without them.
    if settings.encoder_engine == "tgi":
        from services.encoder.engines.tgi import TgiEngine

        return TgiEngine(settings, store)
    from services.encoder.engines.transformers import TransformersEngine

    return TransformersEngine(settings, store)
