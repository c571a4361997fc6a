"""What a scrape tells of calls: statuses, durations, and how many run, over real RPCs and a real HTTP scrape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from langptune.errors import DeadlineExceeded, InvalidArgument, LangPTuneError
from langptune.local.process import free_port
from langptune.rpc import open_channel
from langptune.rpc.channel import Channel
from langptune.rpc.interceptors import CallInterceptor
from langptune.rpc.metrics import MetricsDoor
from langptune.v1 import encoder_pb2 as pb
from langptune.v1.encoder_pb2_grpc import EncoderServiceServicer, EncoderServiceStub, add_EncoderServiceServicer_to_server

LABELS = {"grpc_service": "langptune.v1.EncoderService", "grpc_method": "UnloadEncoderVersion"}


class Servicer(EncoderServiceServicer):
    """Unloads after `let` is set; refuses the version "bad"."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.let = asyncio.Event()

    async def UnloadEncoderVersion(  # noqa: N802
        self, request: pb.UnloadEncoderVersionRequest, context: grpc.aio.ServicerContext
    ) -> pb.UnloadEncoderVersionResponse:
        if request.encoder_version == "bad":
            raise InvalidArgument("encoder_version", "is bad")
        self.came.set()
        await self.let.wait()
        return pb.UnloadEncoderVersionResponse()


@pytest.fixture
def door() -> Iterator[str]:
    """The URL of a scrape."""

    def state() -> Iterator[Metric]:
        yield GaugeMetricFamily("langptune_test_state", "Read at the scrape.", value=7.0)

    port = free_port()
    door = MetricsDoor("127.0.0.1", port, state)
    yield f"http://127.0.0.1:{port}/metrics"
    door.close()


@pytest.fixture
async def served() -> AsyncIterator[tuple[Servicer, Channel]]:
    servicer = Servicer()
    server = grpc.aio.server(interceptors=[CallInterceptor()])
    add_EncoderServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = open_channel(f"127.0.0.1:{port}", timeout=20)
    yield servicer, channel
    await channel.close()
    await server.stop(None)


def _scrape(url: str) -> dict[tuple[str, str], float]:
    """(sample name, status or "") to value, of the one method; and the state's."""
    with urlopen(url, timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (sample.name, sample.labels.get("grpc_code", "")): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("langptune_test") or (LABELS.items() <= sample.labels.items() and "le" not in sample.labels)
    }


async def test_a_scrape_counts_calls_by_status_and_those_that_run(door: str, served: tuple[Servicer, Channel]) -> None:
    servicer, channel = served
    stub = EncoderServiceStub(channel)
    before = await asyncio.to_thread(_scrape, door)
    running = asyncio.ensure_future(stub.UnloadEncoderVersion(pb.UnloadEncoderVersionRequest(encoder_version="good")))
    await asyncio.wait_for(servicer.came.wait(), 20)
    with pytest.raises(InvalidArgument):
        await stub.UnloadEncoderVersion(pb.UnloadEncoderVersionRequest(encoder_version="bad"))
    during = await asyncio.to_thread(_scrape, door)
    servicer.let.set()
    await running
    after = await asyncio.to_thread(_scrape, door)

    def grown(later: dict[tuple[str, str], float], name: str, code: str = "") -> float:
        return later[name, code] - before.get((name, code), 0.0)

    assert (during["grpc_server_in_flight", ""], after["grpc_server_in_flight", ""]) == (1.0, 0.0)
    assert grown(during, "grpc_server_handled_total", "INVALID_ARGUMENT") == 1.0
    assert grown(during, "grpc_server_handled_total", "OK") == 0.0
    assert grown(after, "grpc_server_handled_total", "OK") == 1.0
    assert grown(after, "grpc_server_handling_seconds_count") == 2.0
    assert grown(after, "grpc_server_handling_seconds_sum") > 0.0
    assert after["langptune_test_state", ""] == 7.0


async def test_a_call_that_ran_out_of_time_is_told_from_one_that_was_left(door: str, served: tuple[Servicer, Channel]) -> None:
    servicer, channel = served
    stub = EncoderServiceStub(channel)
    before = await asyncio.to_thread(_scrape, door)
    request = pb.UnloadEncoderVersionRequest(encoder_version="good")
    with pytest.raises(DeadlineExceeded):
        await stub.UnloadEncoderVersion(request, timeout=0.3)
    servicer.came.clear()
    left = asyncio.ensure_future(stub.UnloadEncoderVersion(request))
    await asyncio.wait_for(servicer.came.wait(), 20)
    left.cancel()
    with pytest.raises((asyncio.CancelledError, LangPTuneError)):
        await left
    for _ in range(200):
        after = await asyncio.to_thread(_scrape, door)
        if not after["grpc_server_in_flight", ""]:
            break
        await asyncio.sleep(0.05)
    for code in ("DEADLINE_EXCEEDED", "CANCELLED"):
        name = ("grpc_server_handled_total", code)
        assert after.get(name, 0.0) - before.get(name, 0.0) == 1.0


def test_a_taken_port_is_told() -> None:
    port = free_port()
    door = MetricsDoor("127.0.0.1", port, list)
    try:
        with pytest.raises(OSError, match="in use"):
            MetricsDoor("127.0.0.1", port, list)
    finally:
        door.close()
