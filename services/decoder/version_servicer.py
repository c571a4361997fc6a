"""The versions' part of DecoderService: load, unload, verify, list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc

from langptune.convert import check_id
from langptune.v1 import decoder_pb2, decoder_pb2_grpc
from langptune.weights import WeightsStore
from services.decoder.decoder import Decoder
from services.decoder.queries import QueryEmbedder
from services.decoder.verification import verify_version


class VersionServicer(decoder_pb2_grpc.DecoderServiceServicer):
    """One method per RPC; protos/langptune/v1/decoder.proto says what each promises."""

    def __init__(self, decoder: Decoder, store: WeightsStore, base_version: str) -> None:
        self._decoder = decoder
        self._store = store
        self._base_version = base_version

    async def LoadDecoderVersion(  # noqa: N802  # the method's name in the proto, as with those below
        self, request: decoder_pb2.LoadDecoderVersionRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[decoder_pb2.LoadDecoderVersionResponse]:
        version = check_id("decoder_version", request.decoder_version)
        async for progress in self._decoder.versions.load(version):
            yield decoder_pb2.LoadDecoderVersionResponse(embedded=progress.embedded, total=progress.total)
        total = len(self._decoder.catalogue)
        yield decoder_pb2.LoadDecoderVersionResponse(embedded=total, total=total, done=True)

    async def UnloadDecoderVersion(  # noqa: N802
        self, request: decoder_pb2.UnloadDecoderVersionRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.UnloadDecoderVersionResponse:
        await self._decoder.versions.unload(check_id("decoder_version", request.decoder_version))
        return decoder_pb2.UnloadDecoderVersionResponse()

    async def VerifyDecoderVersion(  # noqa: N802
        self, request: decoder_pb2.VerifyDecoderVersionRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.VerifyDecoderVersionResponse:
        version = check_id("decoder_version", request.decoder_version)
        found = await verify_version(self._decoder, version)
        digest = await asyncio.to_thread(self._store.deployed_digest, "decoder", version)
        return decoder_pb2.VerifyDecoderVersionResponse(
            decoder_version=version,
            digest=digest,
            items=found.items,
            catalogue_items=found.catalogue_items,
            overlap=found.overlap,
        )

    async def ListDecoderVersions(  # noqa: N802
        self, request: decoder_pb2.ListDecoderVersionsRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.ListDecoderVersionsResponse:
        versions = [
            decoder_pb2.DecoderVersion(
                decoder_version=found.version,
                items=len(found.matrix),
                dimensions=found.dimensions,
                queries=_counts(found.queries),
            )
            for found in self._decoder.versions.resident()
        ]
        return decoder_pb2.ListDecoderVersionsResponse(decoder_versions=versions, base_decoder_version=self._base_version)


def _counts(queries: QueryEmbedder) -> decoder_pb2.QueryCounts:
    counts = queries.counts
    return decoder_pb2.QueryCounts(
        cache_hits=counts.hits,
        cache_misses=counts.misses,
        embedded=counts.embedded,
        batches=counts.batches,
        cached=len(queries),
    )
