"""How a Qdrant server is called when it does not answer as it should, and how the settings lay a collection out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from qdrant_client import AsyncQdrantClient

from langptune.errors import ResourceExhausted, Unavailable
from langptune.local.process import free_port
from services.decoder.index import server as server_module
from services.decoder.index.layout import LAYOUTS
from services.decoder.index.server import Calls, ServerEngine
from services.decoder.settings import DecoderSettings


def refused(code: StatusCode, text: str = "") -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(), details=text)


class Answers:
    """A call that raises the given errors in turn, then answers 42."""

    def __init__(self, errors: Sequence[Exception]) -> None:
        self.errors = list(errors)
        self.asked = 0

    async def __call__(self) -> int:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return 42


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    monkeypatch.setattr(server_module, "_FIRST_WAIT", 0.001)
    return Calls(AsyncQdrantClient("http://127.0.0.1:1", check_compatibility=False), deadline=0.2, tries=3)


async def test_a_server_that_comes_back_is_asked_again(calls: Calls) -> None:
    answers = Answers([refused(StatusCode.UNAVAILABLE), ConnectionResetError()])
    assert await calls("test", answers) == 42
    assert answers.asked == 3


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (refused(StatusCode.UNAVAILABLE), 3),
        (refused(StatusCode.DEADLINE_EXCEEDED), 3),
        (refused(StatusCode.INVALID_ARGUMENT, "secret words of the server"), 1),  # asking again changes nothing
        (refused(StatusCode.UNAUTHENTICATED), 1),
    ],
)
async def test_tries_are_bounded_and_the_servers_words_stay_inside(calls: Calls, error: Exception, asked: int) -> None:
    answers = Answers([error] * 9)
    with pytest.raises(Unavailable, match=r"^the item index failed to test; the service's log has the rest$"):
        await calls("test", answers)
    assert answers.asked == asked


async def test_a_full_disk_is_said_to_be_one(calls: Calls) -> None:
    with pytest.raises(ResourceExhausted, match="disk is full"):
        await calls("test", Answers([refused(StatusCode.INTERNAL, "WAL: No space left on device")]))


async def test_a_silent_server_costs_the_deadline_and_no_more(calls: Calls) -> None:
    asked = 0

    async def silence() -> None:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()

    with pytest.raises(Unavailable):
        await calls("test", silence)
    assert asked == 3


async def test_an_address_without_a_server_is_unavailable() -> None:
    engine = ServerEngine.connect(f"http://127.0.0.1:{free_port()}", grpc_port=free_port(), api_key=None, deadline=0.5, tries=2)
    with pytest.raises(Unavailable, match="failed to open the index items"):
        await engine.open("items", 2)
    await engine.close()


def test_a_size_chooses_the_layout_and_each_part_can_be_set_otherwise() -> None:
    assert DecoderSettings().layout() == LAYOUTS["10k"]
    assert DecoderSettings(decoder_size="100m").layout() == LAYOUTS["100m"]
    changed = DecoderSettings(decoder_size="1m", decoder_replicas=3, decoder_graph=False, decoder_vectors="float32").layout()
    assert (changed.shards, changed.replicas, changed.graph, changed.vectors) == (2, 3, False, "float32")
