"""Jobs with encoders of their own: their versions never reach the encoder that answers users."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from langptune.v1 import encoder_pb2 as pb
from langptune.v1.encoder_pb2_grpc import EncoderServiceServicer, add_EncoderServiceServicer_to_server
from services.trainer.peers import Peers
from services.trainer.publishing.replicas import Replicas
from services.trainer.settings import TrainerSettings


class Encoder(EncoderServiceServicer):
    """Keeps the versions that it was told to load."""

    def __init__(self) -> None:
        self.loaded: set[str] = set()

    async def LoadEncoderVersion(self, request: Any, context: Any) -> pb.LoadEncoderVersionResponse:  # noqa: N802
        self.loaded.add(request.encoder_version)
        return pb.LoadEncoderVersionResponse()

    async def UnloadEncoderVersion(self, request: Any, context: Any) -> pb.UnloadEncoderVersionResponse:  # noqa: N802
        self.loaded.discard(request.encoder_version)
        return pb.UnloadEncoderVersionResponse()

    async def ListEncoderVersions(self, request: Any, context: Any) -> pb.ListEncoderVersionsResponse:  # noqa: N802
        return pb.ListEncoderVersionsResponse(encoder_versions=sorted(self.loaded))


@pytest.mark.parametrize("apart", [True, False])
async def test_a_jobs_versions_are_loaded_where_it_samples(apart: bool) -> None:
    servers, encoders, addresses = [], [Encoder(), Encoder()], []
    for encoder in encoders:
        server = grpc.aio.server()
        add_EncoderServiceServicer_to_server(encoder, server)
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        servers.append(server)
    live, rollouts = addresses
    settings = TrainerSettings(encoder_address=live, rollout_encoder_address=rollouts if apart else "")
    peers, replicas = Peers(settings), Replicas(settings)
    used, other = reversed(encoders) if apart else encoders
    await peers.load("encoder", "v1")
    assert (used.loaded, other.loaded) == ({"v1"}, set())
    answer = await peers.encoder.ListEncoderVersions(pb.ListEncoderVersionsRequest())
    assert list(answer.encoder_versions) == ["v1"]
    assert [replica.address for replica in await replicas.of("encoder")] == [live]  # what a publish is about
    await peers.forget("encoder", "v1")
    assert used.loaded == set()
    await peers.close()
    await replicas.close()
    for server in servers:
        await server.stop(None)
