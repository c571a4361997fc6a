"""Mutual TLS on real sockets with generated certificates: who is refused, who is let in, and what a rotation changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from langptune.errors import FailedPrecondition, LangPTuneError, Unavailable
from langptune.rpc.channel import Channel, open_channel
from langptune.rpc.connection import Connection
from langptune.rpc.tls import Tls
from tests.support.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def _server(tls: Tls | None) -> AsyncIterator[int]:
    """Its port on 127.0.0.1."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    address = "127.0.0.1:0"
    port = server.add_secure_port(address, tls.server_credentials()) if tls else server.add_insecure_port(address)
    await server.start()
    yield port
    await server.stop(None)


async def _ask(channel: Channel) -> str:
    """Whether a call gets through."""
    try:
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    except LangPTuneError as error:
        return type(error).__name__
    return "ok"


async def _call(port: int, tls: Tls | None, **options: str) -> str:
    channel = open_channel(f"127.0.0.1:{port}", timeout=20.0, tls=tls, **options)
    outcome = await _ask(channel)
    await channel.close()
    return outcome


async def test_both_sides_with_certificates_of_the_authority_get_through(authority: Authority) -> None:
    async with _server(authority.issue("server")) as port:
        assert await _call(port, authority.issue("client")) == "ok"


async def test_a_caller_that_cannot_prove_itself_is_refused(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger").issue("stranger")
    async with _server(authority.issue("server")) as port:
        callers = {
            "no TLS": None,
            "no certificate": Tls(authority=authority.file),
            "wrong authority": replace(stranger, authority=authority.file),
            "expired": authority.issue("late", expired=True),
        }
        assert {name: await _call(port, tls) for name, tls in callers.items()} == dict.fromkeys(callers, "Unavailable")
        assert await _call(port, authority.issue("client")) == "ok"


async def test_a_server_that_cannot_prove_itself_is_not_called(authority: Authority, tmp_path: Path) -> None:
    client = authority.issue("client")
    stranger = replace(Authority(tmp_path, "stranger").issue("stranger"), authority=authority.file)
    for tls in (None, stranger, authority.issue("late", expired=True), authority.issue("other", "decoder.example.com")):
        async with _server(tls) as port:
            assert await _call(port, client) == "Unavailable"


async def test_a_replica_is_known_by_the_name_of_its_service(authority: Authority) -> None:
    """The trainer calls each replica by its IP address; the certificate names the service."""
    async with _server(authority.issue("server", "decoder")) as port:
        assert await _call(port, authority.issue("client"), server_name="decoder") == "ok"
        assert await _call(port, authority.issue("client"), server_name="encoder") == "Unavailable"


async def test_without_an_authority_a_server_takes_callers_without_certificates(authority: Authority) -> None:
    async with _server(replace(authority.issue("server"), authority="")) as port:
        assert await _call(port, Tls(authority=authority.file)) == "ok"
        assert await _call(port, Tls()) == "Unavailable"  # no public authority has signed it


async def test_a_rotated_certificate_is_taken_up_by_both_sides(authority: Authority, tmp_path: Path) -> None:
    """Server and client begin with certificates that have expired; files of the same names replace them."""
    server, client = authority.issue("server", expired=True), authority.issue("client", expired=True)
    async with _server(server) as port:
        channel = Channel(Connection(f"127.0.0.1:{port}", tls=client, look=0.0), timeout=20.0)
        assert await _ask(channel) == "Unavailable"
        authority.issue("server")
        assert await _ask(channel) == "Unavailable"
        authority.issue("client")
        assert await _ask(channel) == "ok"
        authority.spoil(client.key)
        assert await _ask(channel) == "ok"
        await channel.close()


def test_files_that_do_not_serve_are_named(authority: Authority, tmp_path: Path) -> None:
    good, other = authority.issue("good"), authority.issue("other")
    broken = tmp_path / "broken.pem"
    broken.write_text("no PEM")
    for tls in (
        replace(good, key=other.key),
        replace(good, certificate=str(tmp_path / "none.pem")),
        replace(good, authority=str(broken)),
        replace(good, key=str(broken)),
    ):
        with pytest.raises(FailedPrecondition, match="do not serve") as caught:
            tls.server_credentials()
        assert str(tmp_path) in caught.value.message
        with pytest.raises(FailedPrecondition):
            open_channel("127.0.0.1:9", tls=tls)


async def test_a_refused_caller_learns_no_more_than_that(authority: Authority) -> None:
    async with _server(authority.issue("server")) as port:
        channel = open_channel(f"127.0.0.1:{port}", timeout=20.0, tls=Tls(authority=authority.file))
        with pytest.raises(Unavailable):
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        await channel.close()
