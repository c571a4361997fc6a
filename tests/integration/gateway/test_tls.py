"""A gateway with TLS at both doors, and mutual TLS between it and a decoder; and a gateway whose certificate nobody asked for."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from langptune.client import LangPTune, Tls
from langptune.errors import Unavailable
from langptune.local.process import free_port
from langptune.v1 import common_pb2
from langptune.v1 import decoder_pb2 as pb
from langptune.v1.decoder_pb2_grpc import DecoderServiceServicer, add_DecoderServiceServicer_to_server
from tests.support.certificates import Authority
from tests.support.processes import RunningService, await_serving, start_service


class Servicer(DecoderServiceServicer):
    """A catalogue of every item there is."""

    def GetItem(self, request: pb.GetItemRequest, context: Any) -> pb.GetItemResponse:  # noqa: N802
        return pb.GetItemResponse(item=common_pb2.Item(item_id=request.item_id, title="Alien"))


@dataclass(frozen=True)
class World:
    """The authority's file, the gateway, and its HTTP port."""

    authority: str
    gateway: RunningService
    http: int
    environment: dict[str, str]


def _files(prefix: str, tls: Tls) -> dict[str, str]:
    return {f"LANGPTUNE_{prefix}TLS_CERTIFICATE": tls.certificate, f"LANGPTUNE_{prefix}TLS_KEY": tls.key}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    decoder = grpc.server(ThreadPoolExecutor(2))
    add_DecoderServiceServicer_to_server(Servicer(), decoder)
    port = decoder.add_secure_port("127.0.0.1:0", authority.issue("decoder").server_credentials())
    decoder.start()
    http, health = free_port(), free_port()
    environment = {
        "LANGPTUNE_DECODER_ADDRESS": f"127.0.0.1:{port}",
        "LANGPTUNE_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "LANGPTUNE_GATEWAY_HTTP_PORT": str(http),
        "LANGPTUNE_HEALTH_PORT": str(health),
        **_files("", authority.issue("gateway")),
        "LANGPTUNE_TLS_AUTHORITY": authority.file,
        **_files("GATEWAY_", authority.issue("door")),
    }
    gateway = start_service("gateway", folder, environment, wait=0)
    await_serving(RunningService(f"127.0.0.1:{health}", gateway.process, gateway.log_file))
    yield World(authority.file, gateway, http, environment)
    gateway.terminate()
    decoder.stop(None)


async def test_a_call_comes_through_both_layers(world: World) -> None:
    async with LangPTune(world.gateway.address, tls=Tls(authority=world.authority)) as lp:
        assert (await lp.get_item("i1")).title == "Alien"
    async with LangPTune(world.gateway.address, timeout=5.0) as plain:
        with pytest.raises(Unavailable):
            await plain.get_item("i1")


async def test_json_comes_through_as_well(world: World) -> None:
    def ask() -> dict[str, Any]:
        url = f"https://127.0.0.1:{world.http}/langptune.v1.CatalogService/GetCatalogItem"
        asked = urllib.request.Request(url, b'{"itemId": "i1"}', {"content-type": "application/json"})
        trusted = ssl.create_default_context(cafile=world.authority)
        with urllib.request.urlopen(asked, timeout=30, context=trusted) as response:
            return dict(json.load(response))

    assert (await asyncio.to_thread(ask))["item"]["title"] == "Alien"


async def test_probes_need_no_certificate_and_see_health_alone(world: World) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.environment['LANGPTUNE_HEALTH_PORT']}") as channel:
        status = (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)).status
        assert status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/langptune.v1.CatalogService/GetCatalogItem")(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"LANGPTUNE_TLS_KEY": ""}, "go together"),
        ({"LANGPTUNE_GATEWAY_TLS_KEY": ""}, "go together"),
        ({"LANGPTUNE_GATEWAY_TLS_CERTIFICATE": "/nowhere/at/all.pem"}, "cannot start: TLS: /nowhere/at/all.pem"),
    ],
)
def test_a_start_with_half_of_it_is_refused_in_a_sentence(world: World, changed: dict[str, str], said: str) -> None:
    command = [sys.executable, "-m", "services.gateway"]
    settings = {**os.environ, **world.environment, "LANGPTUNE_GATEWAY_PORT": str(free_port()), **changed}
    ended = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
