"""The circuit breaker on real channels to a server in this process, which is really stopped and started again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from langptune.errors import DeadlineExceeded, InvalidArgument, LangPTuneError, Unavailable
from langptune.local.process import free_port
from langptune.rpc.breaker import Breaker, Circuit
from langptune.rpc.channel import Channel, open_channel
from langptune.rpc.interceptors import CallInterceptor
from langptune.v1 import decoder_pb2 as pb
from langptune.v1.decoder_pb2_grpc import DecoderServiceServicer, DecoderServiceStub, add_DecoderServiceServicer_to_server


class Servicer(DecoderServiceServicer):
    """Counts calls, and answers when `answering` is set."""

    def __init__(self) -> None:
        self.calls = 0
        self.called = asyncio.Event()
        self.answering = asyncio.Event()
        self.answering.set()

    async def GetItem(self, request: pb.GetItemRequest, context: grpc.aio.ServicerContext) -> pb.GetItemResponse:  # noqa: N802
        self.calls += 1
        self.called.set()
        await self.answering.wait()
        if request.item_id == "bad":
            raise InvalidArgument("item_id", "is bad")
        return pb.GetItemResponse()

    async def LoadDecoderVersion(  # noqa: N802
        self, request: pb.LoadDecoderVersionRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.LoadDecoderVersionResponse]:
        self.calls += 1
        for embedded in range(10):
            yield pb.LoadDecoderVersionResponse(embedded=embedded)


class Peer:
    """A server that can be stopped and started on its port, and a channel to it with a breaker and a clock of ours."""

    def __init__(self) -> None:
        self.now = 0.0
        self.servicer = Servicer()
        self.port = free_port()
        self.breaker = Breaker("decoder", failures=3, rest=10.0, clock=lambda: self.now)
        self.channel: Channel = open_channel(f"127.0.0.1:{self.port}", timeout=10.0, breaker=self.breaker)
        self.stub = DecoderServiceStub(self.channel)

    async def start(self) -> None:
        self.server = grpc.aio.server(interceptors=[CallInterceptor()])
        add_DecoderServiceServicer_to_server(self.servicer, self.server)
        self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()

    async def get(self, item_id: str = "any", **options: float) -> str:
        """How a call ends."""
        try:
            await self.stub.GetItem(pb.GetItemRequest(item_id=item_id), **options)
        except LangPTuneError as error:
            return error.reason or type(error).__name__
        return "ok"


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    await peer.start()
    yield peer
    await peer.channel.close()
    await peer.server.stop(None)


async def test_a_service_that_is_gone_is_left_alone_until_a_probe_gets_through(peer: Peer) -> None:
    assert await peer.get() == "ok"
    await peer.server.stop(None)
    assert [await peer.get() for _ in range(3)] == ["Unavailable"] * 3
    assert (peer.breaker.state, peer.breaker.opened) == (Circuit.OPEN, 1)
    await peer.start()
    assert [await peer.get() for _ in range(5)] == ["CIRCUIT_OPEN"] * 5
    assert peer.servicer.calls == 1  # nobody asked it
    peer.now += 10.0
    await peer.channel.ready(20.0)
    assert await peer.get() == "ok"
    assert peer.breaker.state is Circuit.CLOSED
    assert await asyncio.gather(*(peer.get() for _ in range(20))) == ["ok"] * 20


async def test_one_probe_at_a_time(peer: Peer) -> None:
    """20 calls at once after the rest: one goes out, and while it is out the others are refused."""
    peer.servicer.answering.clear()
    assert [await peer.get(timeout=0.2) for _ in range(3)] == ["DeadlineExceeded"] * 3
    peer.now += 10.0
    before = peer.servicer.calls
    peer.servicer.called.clear()
    calls = [asyncio.create_task(peer.get()) for _ in range(20)]
    await asyncio.wait_for(peer.servicer.called.wait(), 20)
    assert peer.breaker.state is Circuit.HALF_OPEN
    peer.servicer.answering.set()
    ended = await asyncio.gather(*calls)
    assert (ended.count("ok"), ended.count("CIRCUIT_OPEN")) == (1, 19)
    assert peer.servicer.calls == before + 1
    assert peer.breaker.state is Circuit.CLOSED


async def test_a_probe_that_fails_opens_it_for_another_rest(peer: Peer) -> None:
    peer.servicer.answering.clear()
    for _ in range(3):
        await peer.get(timeout=0.1)
    peer.now += 10.0
    assert await peer.get(timeout=0.1) == "DeadlineExceeded"
    assert (peer.breaker.state, peer.breaker.opened) == (Circuit.OPEN, 2)
    peer.now += 9.9
    assert await peer.get() == "CIRCUIT_OPEN"


async def test_a_probe_that_is_called_off_lets_the_next_one_out(peer: Peer) -> None:
    peer.servicer.answering.clear()
    for _ in range(3):
        await peer.get(timeout=0.1)
    peer.now += 10.0
    probe = asyncio.create_task(peer.get())
    await asyncio.sleep(0.05)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    peer.servicer.answering.set()
    assert await peer.get() == "ok"


async def test_errors_that_a_service_answers_with_are_signs_of_life(peer: Peer) -> None:
    assert [await peer.get("bad") for _ in range(10)] == ["INVALID_ARGUMENT"] * 10
    peer.servicer.answering.clear()
    for _ in range(2):
        await peer.get(timeout=0.1)
    peer.servicer.answering.set()
    await peer.get("bad")
    peer.servicer.answering.clear()
    for _ in range(2):
        await peer.get(timeout=0.1)
    assert peer.breaker.state is Circuit.CLOSED  # never three in a row


async def test_streams_pass_it_too(peer: Peer) -> None:
    request = pb.LoadDecoderVersionRequest()
    assert [response.embedded async for response in peer.stub.LoadDecoderVersion(request)] == list(range(10))
    await peer.server.stop(None)
    for expected in ("", "", "", "CIRCUIT_OPEN"):
        with pytest.raises(Unavailable) as caught:
            async for _ in peer.stub.LoadDecoderVersion(request):
                pass
        assert caught.value.reason == expected


def test_the_error_names_the_peer() -> None:
    breaker = Breaker("encoder", failures=1, rest=10.0, clock=lambda: 0.0)
    with pytest.raises(DeadlineExceeded), breaker.call():
        raise DeadlineExceeded("too slow")
    with pytest.raises(Unavailable, match="the encoder does not answer; it is tried again in 10 s") as caught, breaker.call():
        pass
    assert caught.value.metadata == {"peer": "encoder"}
