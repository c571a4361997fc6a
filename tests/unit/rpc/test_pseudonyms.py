"""No log line of a call holds the id of its user: not in its own fields, not in an error's sentence, not in a trace."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import grpc
import pytest
import structlog

from langptune.errors import Internal, LangPTuneError, NotFound
from langptune.rpc import open_channel
from langptune.rpc.channel import Channel
from langptune.rpc.interceptors import CallInterceptor
from langptune.rpc.logs import configure_logs
from langptune.rpc.pseudonyms import pseudonym, use_key
from langptune.v1 import gateway_pb2 as pb
from langptune.v1.gateway_pb2_grpc import ProfileServiceServicer, ProfileServiceStub, add_ProfileServiceServicer_to_server


class Servicer(ProfileServiceServicer):
    """Fails for everyone: with a typed error for "ann.b", with a defect for anybody else."""

    async def GetProfile(self, request: pb.GetProfileRequest, context: grpc.aio.ServicerContext) -> pb.GetProfileResponse:  # noqa: N802
        if request.user_id == "ann.b":
            raise NotFound("profile", request.user_id)
        raise ZeroDivisionError(f"of {request.user_id}, not of {request.user_id}0")


@pytest.fixture
async def channel() -> AsyncIterator[Channel]:
    server = grpc.aio.server(interceptors=[CallInterceptor()])
    add_ProfileServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = open_channel(f"127.0.0.1:{port}", timeout=5)
    yield channel
    await channel.close()
    await server.stop(None)


async def _line(channel: Channel, user_id: str, kind: type[LangPTuneError], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    with pytest.raises(kind):
        await ProfileServiceStub(channel).GetProfile(pb.GetProfileRequest(user_id=user_id))
    [line] = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    return dict(line)


async def test_a_line_has_the_pseudonym_in_the_ids_place(channel: Channel, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("gateway", key="of the house")
    line = await _line(channel, "ann.b", NotFound, capsys)
    assert line["user"] == pseudonym("ann.b")
    assert line["error"] == f"profile '{pseudonym('ann.b')}' does not exist"
    assert "ann.b" not in json.dumps(line)


async def test_a_trace_is_cleared_of_it_too(channel: Channel, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("gateway", key="of the house")
    line = await _line(channel, "u7", Internal, capsys)
    assert f"ZeroDivisionError: of {pseudonym('u7')}, not of u70" in line["exception"]


def test_the_key_decides_the_pseudonym() -> None:
    use_key("one")
    first = pseudonym("u7")
    use_key("another")
    assert pseudonym("u7") != first
    use_key("one")
    assert pseudonym("u7") == first
    assert len(first) == 16


def test_a_line_outside_a_call_has_no_id_either(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("gateway", key="of the house")
    structlog.get_logger("test").warning("refresh failed", user_id="u7", error="profile 'u7' was changed")
    [line] = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["user"], line["error"]) == (pseudonym("u7"), f"profile '{pseudonym('u7')}' was changed")
    assert "user_id" not in line
