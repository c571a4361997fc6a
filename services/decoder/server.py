"""The decoder as a service: opens the catalogue, loads the base version, and serves until told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import grpc
from prometheus_client.core import Metric

from langptune.v1 import decoder_pb2, decoder_pb2_grpc
from langptune.weights import WeightsStore
from services.decoder import metrics
from services.decoder.catalogue import Catalogue
from services.decoder.decoder import Decoder
from services.decoder.engines import open_engine
from services.decoder.filters import FilterFields
from services.decoder.index import Engine
from services.decoder.servicer import DecoderServicer
from services.decoder.settings import DecoderSettings
from services.decoder.threads import set_threads
from services.decoder.versions import VersionPool

CATALOGUE = "catalogue"  # name of the collection of record


class DecoderService:
    """See `langptune.rpc.Service`."""

    name = "decoder"
    proto_services: Sequence[str] = (decoder_pb2.DESCRIPTOR.services_by_name["DecoderService"].full_name,)

    def __init__(self, settings: DecoderSettings) -> None:
        self._settings = settings
        self._engine: Engine | None = None
        self._decoder: Decoder | None = None

    async def start(self, server: grpc.aio.Server) -> None:
        settings = self._settings
        set_threads(settings.torch_threads)
        store = WeightsStore(settings.weights_uri, settings.weights_cache)
        base = await asyncio.to_thread(store.ensure_base, "decoder", settings.embedding_model)
        fields = FilterFields(settings.decoder_filterable_fields)
        self._engine = open_engine(settings)
        catalogue = await Catalogue.load(await self._engine.open(CATALOGUE, 0))
        versions = VersionPool(settings, store, self._engine, catalogue)
        self._decoder = Decoder(catalogue, versions, refuse_long=settings.embedder_over_length == "drop")
        async with self._decoder.versions.use(base.version):
            decoder_pb2_grpc.add_DecoderServiceServicer_to_server(
                DecoderServicer(self._decoder, fields, store, base.version), server
            )

    async def stop(self) -> None:
        if self._decoder is not None:
            await self._decoder.close()
        if self._engine is not None:
            await self._engine.close()

    def state(self) -> Iterable[Metric]:
        """What is in memory."""
        return metrics.state(self._decoder)
