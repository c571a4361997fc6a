"""A real server and a real channel in one process: errors, deadlines, request ids, streams that are left early, shutdown."""

import asyncio
import json
import math
from collections.abc import AsyncIterator

import grpc
import pytest

from langptune.errors import Aborted, DeadlineExceeded, Internal, InvalidArgument, LangPTuneError, Unavailable
from langptune.rpc import open_channel
from langptune.rpc.channel import Channel
from langptune.rpc.interceptors import CallInterceptor
from langptune.v1 import decoder_pb2 as pb
from langptune.v1.decoder_pb2_grpc import DecoderServiceServicer, DecoderServiceStub, add_DecoderServiceServicer_to_server


class Servicer(DecoderServiceServicer):
    """Answers GetItem by failing as the item id says; streams for ever from LoadDecoderVersion."""

    def __init__(self) -> None:
        self.calls = 0
        self.abandoned = asyncio.Event()

    async def GetItem(self, request: pb.GetItemRequest, context: grpc.aio.ServicerContext) -> pb.GetItemResponse:  # noqa: N802
        errors: dict[str, Exception] = {
            "invalid": InvalidArgument("item_id", "is not to my taste"),
            "aborted": Aborted("somebody was first", etag="5"),
            "unavailable": Unavailable("a part of mine is gone"),
            "defect": ZeroDivisionError("secret of the house"),
        }
        self.calls += 1
        if request.item_id == "slow":
            await asyncio.sleep(30)
        if request.item_id in errors:
            raise errors[request.item_id]
        return pb.GetItemResponse()

    async def ImportItems(  # noqa: N802
        self, requests: AsyncIterator[pb.ImportItemsRequest], context: grpc.aio.ServicerContext
    ) -> pb.ImportItemsResponse:
        return pb.ImportItemsResponse(imported=sum([1 async for _ in requests]))

    async def LoadDecoderVersion(  # noqa: N802
        self, request: pb.LoadDecoderVersionRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.LoadDecoderVersionResponse]:
        if request.decoder_version == "invalid":
            raise InvalidArgument("decoder_version", "is not to my taste")
        try:
            for embedded in range(10**9):
                yield pb.LoadDecoderVersionResponse(embedded=embedded)
                await asyncio.sleep(0.001)
        finally:
            self.abandoned.set()


@pytest.fixture
async def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
async def channel(servicer: Servicer) -> AsyncIterator[Channel]:
    server = grpc.aio.server(interceptors=[CallInterceptor()])
    add_DecoderServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = open_channel(f"127.0.0.1:{port}", timeout=5)
    yield channel
    await channel.close()
    await server.stop(None)


async def _get(channel: Channel, item_id: str, **options: float) -> LangPTuneError:
    with pytest.raises(LangPTuneError) as caught:
        await DecoderServiceStub(channel).GetItem(pb.GetItemRequest(item_id=item_id), **options)
    return caught.value


async def test_a_typed_error_arrives_as_itself(channel: Channel) -> None:
    invalid = await _get(channel, "invalid")
    assert isinstance(invalid, InvalidArgument)
    assert (invalid.field, invalid.message) == ("item_id", "item_id: is not to my taste")
    aborted = await _get(channel, "aborted")
    assert isinstance(aborted, Aborted)
    assert aborted.etag == "5"


async def test_a_defect_tells_nothing_of_itself(channel: Channel) -> None:
    error = await _get(channel, "defect")
    assert isinstance(error, Internal)
    assert "secret" not in error.message


async def test_a_call_has_a_deadline(channel: Channel) -> None:
    assert isinstance(await _get(channel, "slow", timeout=0.2), DeadlineExceeded)


async def test_nobody_there_is_unavailable() -> None:
    channel = open_channel("127.0.0.1:9", timeout=2)
    assert isinstance(await _get(channel, "any"), Unavailable)
    await channel.close()


async def test_what_the_service_itself_finds_unavailable_is_not_asked_again(channel: Channel, servicer: Servicer) -> None:
    assert isinstance(await _get(channel, "unavailable"), Unavailable)
    assert servicer.calls == 1


async def test_a_stream_fails_typed(channel: Channel) -> None:
    with pytest.raises(InvalidArgument, match="taste"):
        async for _ in DecoderServiceStub(channel).LoadDecoderVersion(pb.LoadDecoderVersionRequest(decoder_version="invalid")):
            pass


async def test_a_stream_that_is_left_early_stops_on_the_other_side(channel: Channel, servicer: Servicer) -> None:
    stream = DecoderServiceStub(channel).LoadDecoderVersion(pb.LoadDecoderVersionRequest())
    async for response in stream:
        if response.embedded == 3:
            break
    await stream.aclose()
    await asyncio.wait_for(servicer.abandoned.wait(), 5)


async def test_one_line_a_call_with_the_callers_request_id(channel: Channel, capsys: pytest.CaptureFixture[str]) -> None:
    import structlog

    from langptune.rpc.logs import configure_logs

    configure_logs("decoder")
    with structlog.contextvars.bound_contextvars(request_id="0123456789abcdef"):
        await DecoderServiceStub(channel).GetItem(pb.GetItemRequest(item_id="fine"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    [line] = [line for line in lines if line["event"] == "call"]
    assert line["request_id"] == "0123456789abcdef"
    assert (line["service"], line["method"], line["code"]) == ("decoder", "/langptune.v1.DecoderService/GetItem", "OK")
    assert math.isfinite(line["seconds"])


async def test_a_source_of_requests_that_breaks_raises_its_own_error(channel: Channel) -> None:
    async def broken() -> AsyncIterator[pb.ImportItemsRequest]:
        yield pb.ImportItemsRequest()
        raise InvalidArgument("line 2", "is not JSON")

    with pytest.raises(InvalidArgument, match="line 2: is not JSON"):
        await asyncio.wait_for(DecoderServiceStub(channel).ImportItems(broken()), 5)
