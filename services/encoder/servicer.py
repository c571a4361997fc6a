"""EncoderService: translate in, call the engine, translate out. Errors become statuses in `langptune.rpc`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TypeAlias

import grpc

from langptune.convert import check_id
from langptune.errors import NotFound
from langptune.v1 import encoder_pb2 as pb
from langptune.v1.encoder_pb2_grpc import EncoderServiceServicer
from langptune.weights import WeightsStore
from services.encoder import metrics
from services.encoder.engines.port import Engine, RolloutGroup
from services.encoder.requests import profile_response, profile_work, rollout_work, rollouts_response, stream_response
from services.encoder.settings import EncoderSettings

Context: TypeAlias = grpc.aio.ServicerContext


class EncoderServicer(EncoderServiceServicer):
    """Serves one engine."""

    def __init__(self, engine: Engine, store: WeightsStore, settings: EncoderSettings, base_version: str) -> None:
        self._engine = engine
        self._store = store
        self._settings = settings
        self._base_version = base_version

    async def GenerateProfile(self, request: pb.GenerateProfileRequest, context: Context) -> pb.GenerateProfileResponse:  # noqa: N802  # proto
        group = await self._engine.generate(profile_work(request, self._settings))
        return profile_response(metrics.count(group, "live"), request.encoder_version)

    async def StreamProfile(self, request: pb.StreamProfileRequest, context: Context) -> AsyncIterator[pb.StreamProfileResponse]:  # noqa: N802
        async with aclosing(self._engine.stream(profile_work(request.profile, self._settings))) as parts:
            async for part in parts:
                if isinstance(part, RolloutGroup):
                    metrics.count(part, "live")
                yield stream_response(part, request.profile.encoder_version)

    async def SampleRollouts(  # noqa: N802
        self, request: pb.SampleRolloutsRequest, context: Context
    ) -> AsyncIterator[pb.SampleRolloutsResponse]:
        async with aclosing(self._engine.sample_rollouts(rollout_work(request, self._settings))) as groups:
            async for group in groups:
                yield rollouts_response(metrics.count(group, "rollouts"), request.encoder_version)

    async def LoadEncoderVersion(self, request: pb.LoadEncoderVersionRequest, context: Context) -> pb.LoadEncoderVersionResponse:  # noqa: N802
        before = await self._engine.load(check_id("encoder_version", request.encoder_version))
        return pb.LoadEncoderVersionResponse(already_loaded=before)

    async def UnloadEncoderVersion(  # noqa: N802
        self, request: pb.UnloadEncoderVersionRequest, context: Context
    ) -> pb.UnloadEncoderVersionResponse:
        await self._engine.unload(check_id("encoder_version", request.encoder_version))
        return pb.UnloadEncoderVersionResponse()

    async def VerifyEncoderVersion(  # noqa: N802
        self, request: pb.VerifyEncoderVersionRequest, context: Context
    ) -> pb.VerifyEncoderVersionResponse:
        version = check_id("encoder_version", request.encoder_version)
        if version not in self._engine.versions():
            raise NotFound("resident encoder version", version)
        digest = await asyncio.to_thread(self._store.deployed_digest, "encoder", version)
        response = pb.VerifyEncoderVersionResponse(encoder_version=version, digest=digest)
        if request.prompt_token_ids or request.response_token_ids:
            response.log_prob = math.fsum(await self._engine.score(version, request.prompt_token_ids, request.response_token_ids))
        return response

    async def ListEncoderVersions(  # noqa: N802
        self, request: pb.ListEncoderVersionsRequest, context: Context
    ) -> pb.ListEncoderVersionsResponse:
        versions = sorted(self._engine.versions())
        return pb.ListEncoderVersionsResponse(encoder_versions=versions, base_encoder_version=self._base_version)
