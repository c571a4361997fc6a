"""Every RPC x every kind of caller, over gRPC and over Connect JSON, on a real gateway; made from the service descriptors.

Behind the gateway is a server without services, so a call that is let in ends as NOT_FOUND and the like; asked is only whether
it was let in. What is expected stands here, in words of its own, and is not read from the gateway's table.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import jwt
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from langptune.client import LangPTune
from langptune.errors import LangPTuneError, PermissionDenied, Unauthenticated
from langptune.identity import DEVELOPMENT_SECRET, mint, new_key, public_jwk
from langptune.rpc import open_channel
from langptune.rpc.channel import bearer
from services.gateway.server import SERVED
from tests.integration.gateway.doors import Doors
from tests.support.processes import running_service

VICTIM = "user-under-test"
METHODS = {f"{service.name}/{method.name}": method for service in SERVED for method in service.methods}
IMPORTS = {"InteractionService/ImportInteractions", "CatalogService/ImportCatalogItems"}
FOR_OPERATORS = {"TrainerService", "ReleaseService", "RefreshQueueService"}
FOR_EVERYBODY = {"CatalogService/GetCatalogItem", "CatalogService/ListCatalogItems"}  # with a token


def _token(**changed: object) -> str:
    now = int(time.time())
    claims = {"sub": VICTIM, "iss": "langptune", "aud": "langptune", "iat": now, "exp": now + 3_600} | changed
    return jwt.encode(claims, DEVELOPMENT_SECRET, algorithm="HS256")


def _without_signature() -> str:
    return jwt.encode(jwt.decode(_token(scope="operator users"), options={"verify_signature": False}), "", algorithm="none")


CALLERS = {
    "no token": "",
    "expired": _token(exp=int(time.time()) - 3_600),
    "forged signature": mint(VICTIM, "another secret, and just as long as it", scopes=["operator", "users"]),
    "wrong audience": _token(aud="somebody-else", scope="operator users"),
    "alg none": _without_signature(),
    "other user": mint("somebody-else", DEVELOPMENT_SECRET),
    "user": mint(VICTIM, DEVELOPMENT_SECRET),
    "operator": mint("the-operator", DEVELOPMENT_SECRET, scopes=["operator"]),
    "program for users": mint("a-program", DEVELOPMENT_SECRET, scopes=["users"]),
}
REASONS = {"TOKEN_MISSING", "TOKEN_EXPIRED", "TOKEN_INVALID", "NOT_YOURS", "SCOPE_MISSING"}
WITHOUT_A_TOKEN_THAT_HOLDS = {"no token", "expired", "forged signature", "wrong audience", "alg none"}


def _expected(rpc: str, caller: str) -> str:
    if caller in WITHOUT_A_TOKEN_THAT_HOLDS:
        return "UNAUTHENTICATED"
    if rpc in FOR_EVERYBODY:
        return "let in"
    if rpc in IMPORTS or rpc.partition("/")[0] in FOR_OPERATORS:
        return "let in" if caller == "operator" else "PERMISSION_DENIED"
    return "let in" if caller in ("user", "program for users") else "PERMISSION_DENIED"


def _request(method: MethodDescriptor) -> Message:
    request = GetMessageClass(method.input_type)()
    if "user_id" in method.input_type.fields_by_name:
        request.user_id = VICTIM  # type: ignore[attr-defined]  # the descriptor says so
    return request


@pytest.mark.parametrize("caller", CALLERS)
async def test_every_rpc_over_grpc(doors: Doors, caller: str) -> None:
    channel = open_channel(doors.gateway.address, timeout=20.0, token=CALLERS[caller])

    async def outcome(method: MethodDescriptor) -> str:
        path = f"/{method.containing_service.full_name}/{method.name}"
        messages = {
            "request_serializer": lambda request: request.SerializeToString(),
            "response_deserializer": GetMessageClass(method.output_type).FromString,
        }

        async def requests() -> AsyncIterator[Message]:
            yield _request(method)

        try:
            if method.client_streaming:
                await channel.stream_unary(path, **messages)(requests())
            elif method.server_streaming:
                async for _ in channel.unary_stream(path, **messages)(_request(method)):
                    break
            else:
                await channel.unary_unary(path, **messages)(_request(method))
        except (Unauthenticated, PermissionDenied) as error:
            return error.code.name if error.reason in REASONS and VICTIM not in error.message else f"leaks: {error.message}"
        except LangPTuneError:
            pass  # let in, and no further
        return "let in"

    found = dict(zip(METHODS, await asyncio.gather(*map(outcome, METHODS.values())), strict=True))
    await channel.close()
    assert found == {rpc: _expected(rpc, caller) for rpc in METHODS}


@pytest.mark.parametrize("caller", CALLERS)
async def test_every_rpc_over_json(doors: Doors, caller: str) -> None:
    def outcome(method: MethodDescriptor) -> str:
        streams = method.server_streaming
        body = json.dumps({"userId": VICTIM} if "user_id" in method.input_type.fields_by_name else {}).encode()
        headers = {"content-type": "application/connect+json" if streams else "application/json"}
        headers |= {"authorization": f"Bearer {CALLERS[caller]}"} if CALLERS[caller] else {}
        url = f"{doors.http}/{method.containing_service.full_name}/{method.name}"
        asked = urllib.request.Request(url, (b"\0" + len(body).to_bytes(4) if streams else b"") + body, headers)
        try:
            with urllib.request.urlopen(asked, timeout=30) as response:
                told = response.read()
        except urllib.error.HTTPError as error:
            with error:
                told, status = error.read(), error.code
            if method.client_streaming:
                assert status == 404, rpc_of(method)
                return "not served"
        answer = json.loads(told[5:] if streams else told)
        code = (answer.get("error") or answer).get("code", "")
        return {"unauthenticated": "UNAUTHENTICATED", "permission_denied": "PERMISSION_DENIED"}.get(code, "let in")

    outcomes = await asyncio.gather(*(asyncio.to_thread(outcome, method) for method in METHODS.values()))
    found = dict(zip(METHODS, outcomes, strict=True))
    assert found == {rpc: "not served" if rpc in IMPORTS else _expected(rpc, caller) for rpc in METHODS}


def rpc_of(method: MethodDescriptor) -> str:
    return f"{method.containing_service.name}/{method.name}"


async def test_nothing_is_served_that_the_matrix_does_not_try(doors: Doors) -> None:
    def names() -> set[str]:
        with grpc.insecure_channel(doors.gateway.address) as channel:
            return set(ProtoReflectionDescriptorDatabase(channel).get_services())

    served = {name.removeprefix("langptune.v1.") for name in await asyncio.to_thread(names) if name.startswith("langptune.")}
    assert served == {service.name for service in SERVED}
    assert not served & {"EncoderService", "DecoderService"}


@pytest.mark.parametrize("path", ["EncoderService/GenerateProfile", "DecoderService/Rank", "ProfileService/Guess"])
async def test_internal_rpcs_are_not_reachable(doors: Doors, path: str) -> None:
    channel = open_channel(doors.gateway.address, timeout=20.0, token=CALLERS["operator"])
    with pytest.raises(LangPTuneError, match=r"(?i)method not found"):
        await channel.unary_unary(f"/langptune.v1.{path}")(b"")
    await channel.close()
    with pytest.raises(urllib.error.HTTPError) as caught:
        await asyncio.to_thread(urllib.request.urlopen, urllib.request.Request(f"{doors.http}/langptune.v1.{path}", b"{}"))
    assert caught.value.code in (404, 405)
    caught.value.close()


async def test_health_and_the_page_are_open(doors: Doors) -> None:
    with grpc.insecure_channel(doors.gateway.address) as channel:
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10).status
    assert status == health_pb2.HealthCheckResponse.SERVING
    with await asyncio.to_thread(urllib.request.urlopen, doors.http) as page:
        assert page.status == 200


async def test_a_call_is_let_in_by_its_own_token_not_by_the_channels_earlier_one(doors: Doors) -> None:
    """The JSON door shares one channel to the gRPC door: nobody's token may stay on it."""
    method = METHODS["ProfileService/DismissProfileSuggestion"]
    channel = open_channel(doors.gateway.address, timeout=20.0)
    call = channel.unary_unary(f"/{method.containing_service.full_name}/{method.name}")
    request = _request(method).SerializeToString()
    await call(request, metadata=bearer(CALLERS["user"]))
    with pytest.raises(Unauthenticated):
        await call(request)
    await channel.close()


async def test_in_production_only_the_key_set_counts_and_nothing_tells_of_itself(doors: Doors, tmp_path: Path) -> None:
    key = new_key()
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [public_jwk(key)]}))
    production = {"LANGPTUNE_ENVIRONMENT": "production", "LANGPTUNE_GATEWAY_JWKS": str(tmp_path / "jwks.json")}
    with running_service("gateway", tmp_path, doors.environment | production | {"LANGPTUNE_GATEWAY_HTTP_PORT": "0"}) as gateway:
        async with LangPTune(gateway.address, token=mint("u1", key)) as lp:
            await lp.dismiss_profile_suggestion("u1")
        for foreign in (DEVELOPMENT_SECRET, new_key()):
            async with LangPTune(gateway.address, token=mint("u1", foreign)) as lp:
                with pytest.raises(Unauthenticated):
                    await lp.dismiss_profile_suggestion("u1")
        with grpc.insecure_channel(gateway.address) as channel, pytest.raises(grpc.RpcError) as caught:
            list(ProtoReflectionDescriptorDatabase(channel).get_services())
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_log_names_who_reaches_for_anothers_data_and_nobody_else(doors: Doors) -> None:
    async with LangPTune(doors.gateway.address, token=mint("u-quiet", DEVELOPMENT_SECRET)) as lp:
        await lp.dismiss_profile_suggestion("u-quiet")
    async with LangPTune(doors.gateway.address, token=mint("u-curious", DEVELOPMENT_SECRET)) as lp:
        with pytest.raises(PermissionDenied):
            await lp.get_profile("u-quiet")
    async with LangPTune(doors.gateway.address, token=mint("support", DEVELOPMENT_SECRET, scopes=["users"])) as lp:
        await lp.dismiss_profile_suggestion("u-quiet")
    told = doors.gateway.log()
    assert [name for name in ("u-quiet", "u-curious", "support") if f'"caller": "{name}"' in told] == ["u-curious", "support"]
