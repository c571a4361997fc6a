"""The encoder as a process of its own, over gRPC."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from langptune.convert import history_to_proto
from langptune.errors import DeadlineExceeded, InvalidArgument, NotFound
from langptune.local.process import free_port
from langptune.rpc import open_channel
from langptune.rpc.channel import Channel
from langptune.v1 import common_pb2
from langptune.v1 import encoder_pb2 as pb
from langptune.v1.encoder_pb2_grpc import EncoderServiceStub
from langptune.weights import Manifest, WeightsStore
from tests.support.micro_writer import interaction, save_micro_writer
from tests.support.processes import ROOT, RunningService, running_service

HISTORY = history_to_proto([interaction("One", "A long tale."), interaction("Two")])


def run_to_end(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A start that serves nothing."""
    command = [sys.executable, "-m", "services.encoder", *arguments]
    return subprocess.run(command, env={**os.environ, **env}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def events(service: RunningService) -> list[dict[str, Any]]:
    """The JSON lines of its log."""
    return [json.loads(line) for line in service.log().splitlines() if line.startswith("{")]


def environment(folder: Path) -> dict[str, str]:
    return {"LANGPTUNE_WEIGHTS_URI": str(folder / "weights"), "LANGPTUNE_PROFILE_MODEL": str(folder / "writer")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The micro model in `writer`, a weights store in `weights`."""
    folder = tmp_path_factory.mktemp("encoder")
    save_micro_writer(folder / "writer")
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> str:
    """A second version in the store."""
    save_micro_writer(folder / "trained", seed=1)
    store = WeightsStore(str(folder / "weights"), folder / "cache")
    return store.add(folder / "trained", Manifest(version="trained", kind="encoder", base_model="micro")).version


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[RunningService]:
    with running_service("encoder", folder / "logs", environment(folder)) as running:
        yield running


@pytest.fixture
async def channel(service: RunningService) -> AsyncIterator[Channel]:
    opened = open_channel(service.address, timeout=20.0)
    yield opened
    await opened.close()


@pytest.fixture
def encoder(channel: Channel) -> EncoderServiceStub:
    return EncoderServiceStub(channel)


@pytest.fixture
async def base(encoder: EncoderServiceStub) -> str:
    listed = await encoder.ListEncoderVersions(pb.ListEncoderVersionsRequest())
    return str(listed.base_encoder_version)


def profile_request(version: str, history: common_pb2.History = HISTORY, **options: float) -> pb.GenerateProfileRequest:
    return pb.GenerateProfileRequest(
        history=history, encoder_version=version, options=pb.GenerationOptions(**{"max_new_tokens": 20, "seed": 4, **options})
    )


async def test_it_is_healthy_and_tells_what_it_serves(service: RunningService) -> None:
    async with grpc.aio.insecure_channel(service.address) as plain:
        health = await health_pb2_grpc.HealthStub(plain).Check(
            health_pb2.HealthCheckRequest(service="langptune.v1.EncoderService"), timeout=5
        )
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        answers = reflection_pb2_grpc.ServerReflectionStub(plain).ServerReflectionInfo(requests, timeout=5)
        names = [entry.name async for answer in answers for entry in answer.list_services_response.service]
        assert "langptune.v1.EncoderService" in names


async def test_a_profile_is_written_and_a_seed_repeats_it(encoder: EncoderServiceStub, base: str) -> None:
    first = await encoder.GenerateProfile(profile_request(base))
    again = await encoder.GenerateProfile(profile_request(base))
    assert first == again
    assert first.encoder_version == base
    assert first.coverage == 1.0
    assert first.prompt_tokens > 200
    assert 1 <= first.profile_tokens <= 20
    assert first.finish_reason in (pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH)


async def test_a_profile_is_streamed_as_it_is_written(encoder: EncoderServiceStub, base: str) -> None:
    whole = await encoder.GenerateProfile(profile_request(base))
    request = pb.StreamProfileRequest(profile=profile_request(base))
    *pieces, last = [part async for part in encoder.StreamProfile(request)]
    assert last.profile == whole
    assert "".join(part.piece for part in pieces) == whole.text
    assert len(pieces) > 2


async def test_rollouts_come_with_what_training_needs(encoder: EncoderServiceStub, base: str) -> None:
    histories = [HISTORY, history_to_proto([interaction(f"N{at}" * 40) for at in range(10)]), HISTORY]
    request = pb.SampleRolloutsRequest(
        histories=histories, samples_per_history=4, encoder_version=base, options=pb.GenerationOptions(max_new_tokens=15)
    )
    groups = {group.history_index: group async for group in encoder.SampleRollouts(request)}
    assert sorted(groups) == [0, 1, 2]
    assert groups[0].prompt_token_ids[:2] == [1, 3]  # BOS once, then <user>
    assert groups[0].coverage == 1.0
    assert 0 < groups[1].coverage < 1  # ten long entries are over 1,024 tokens
    for group in groups.values():
        assert group.encoder_version == base
        assert len(group.rollouts) == 4
        assert all(len(rollout.token_ids) == len(rollout.log_probs) > 0 for rollout in group.rollouts)
        assert all(value <= 0 for rollout in group.rollouts for value in rollout.log_probs)


async def test_versions_load_serve_and_unload(encoder: EncoderServiceStub, base: str, trained: str) -> None:
    load = pb.LoadEncoderVersionRequest(encoder_version=trained)
    assert not (await encoder.LoadEncoderVersion(load)).already_loaded
    assert (await encoder.LoadEncoderVersion(load)).already_loaded
    listed = await encoder.ListEncoderVersions(pb.ListEncoderVersionsRequest())
    assert list(listed.encoder_versions) == sorted([base, trained])
    texts = [(await encoder.GenerateProfile(profile_request(version))).text for version in (base, trained)]
    assert texts[0] != texts[1]
    for _ in range(2):
        await encoder.UnloadEncoderVersion(pb.UnloadEncoderVersionRequest(encoder_version=trained))
    listed = await encoder.ListEncoderVersions(pb.ListEncoderVersionsRequest())
    assert list(listed.encoder_versions) == [base]
    assert (await encoder.GenerateProfile(profile_request(trained))).text == texts[1]  # loaded again on use


def long_rollouts(version: str) -> pb.SampleRolloutsRequest:
    """Takes a second or more."""
    options = pb.GenerationOptions(max_new_tokens=600, seed=1)
    return pb.SampleRolloutsRequest(histories=[HISTORY], samples_per_history=32, encoder_version=version, options=options)


async def collect(stream: AsyncIterator[pb.SampleRolloutsResponse]) -> list[pb.SampleRolloutsResponse]:
    return [group async for group in stream]


def entry(title: str = "One", rating: float = 4.0, review: str = "") -> common_pb2.Interaction:
    return common_pb2.Interaction(item=common_pb2.Item(item_id="i1", title=title), rating=rating, review=review)


@pytest.mark.parametrize(
    ("interactions", "field"),
    [
        ([], "history.interactions"),
        ([entry()] * 1_001, "history.interactions"),
        ([entry(), entry(rating=float("nan"))], "history.interactions[1].rating"),
        ([entry(review="ring\x07")], "history.interactions[0].review"),
        ([entry(review="x" * 1_000_000)], "history.interactions[0].review"),
        ([entry(title="")], "history.interactions[0].item.title"),
        ([entry(review="word " * 15_000)], "history.interactions[0]"),
    ],
)
async def test_bad_histories_name_the_field(
    encoder: EncoderServiceStub, base: str, interactions: list[common_pb2.Interaction], field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await encoder.GenerateProfile(profile_request(base, common_pb2.History(interactions=interactions)))
    assert refused.value.field == field
    request = pb.SampleRolloutsRequest(
        histories=[HISTORY, common_pb2.History(interactions=interactions)], samples_per_history=1, encoder_version=base
    )
    with pytest.raises(InvalidArgument) as refused:
        await anext(encoder.SampleRollouts(request))
    assert refused.value.field == field.replace("history", "histories[1]", 1)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_new_tokens": 4_097}, "options.max_new_tokens"),
        ({"max_new_tokens": -1}, "options.max_new_tokens"),
        ({"temperature": 2.5}, "options.temperature"),
        ({"temperature": float("nan")}, "options.temperature"),
    ],
)
async def test_bad_options_name_the_field(encoder: EncoderServiceStub, base: str, options: dict[str, float], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await encoder.GenerateProfile(profile_request(base, **options))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (pb.SampleRolloutsRequest(options=pb.GenerationOptions(temperature=0.7)), "options.temperature"),
        (pb.SampleRolloutsRequest(samples_per_history=64), "samples_per_history"),  # added to the 1 of the request
        (pb.SampleRolloutsRequest(histories=[HISTORY] * 1_024), "histories"),
        (pb.SampleRolloutsRequest(domain="d" * 201), "domain"),
    ],
)
async def test_bad_rollout_requests_name_the_field(
    encoder: EncoderServiceStub, base: str, change: pb.SampleRolloutsRequest, field: str
) -> None:
    request = pb.SampleRolloutsRequest(histories=[HISTORY], samples_per_history=1, encoder_version=base)
    request.MergeFrom(change)
    request.samples_per_history += 1 if field == "samples_per_history" else 0
    with pytest.raises(InvalidArgument) as refused:
        await anext(encoder.SampleRollouts(request))
    assert refused.value.field == field


async def test_unknown_and_empty_versions(encoder: EncoderServiceStub) -> None:
    with pytest.raises(NotFound) as unknown:
        await encoder.GenerateProfile(profile_request("nowhere"))
    assert (unknown.value.resource, unknown.value.identifier) == ("encoder version", "nowhere")
    for version in ("", "../etc"):
        with pytest.raises(InvalidArgument) as refused:
            await encoder.LoadEncoderVersion(pb.LoadEncoderVersionRequest(encoder_version=version))
        assert refused.value.field == "encoder_version"


async def test_a_deadline_ends_the_work(encoder: EncoderServiceStub, base: str, service: RunningService) -> None:
    with pytest.raises(DeadlineExceeded):
        await collect(encoder.SampleRollouts(long_rollouts(base), timeout=0.3))
    await encoder.GenerateProfile(profile_request(base), timeout=5.0)  # the engine is free again


async def test_the_request_id_is_in_the_log(encoder: EncoderServiceStub, base: str, service: RunningService) -> None:
    with structlog.contextvars.bound_contextvars(request_id="request-of-the-test"):
        await encoder.GenerateProfile(profile_request(base))
    (line,) = [event for event in events(service) if event.get("request_id") == "request-of-the-test"]
    assert line["service"] == "encoder"
    assert line["method"].endswith("/GenerateProfile")
    assert line["code"] == "OK"


async def test_sigterm_lets_a_running_call_finish(folder: Path) -> None:
    with running_service("encoder", folder / "logs", environment(folder)) as service:
        channel = open_channel(service.address, timeout=30.0)
        encoder = EncoderServiceStub(channel)
        base = (await encoder.ListEncoderVersions(pb.ListEncoderVersionsRequest())).base_encoder_version
        running = asyncio.create_task(collect(encoder.SampleRollouts(long_rollouts(base))))
        await asyncio.sleep(0.2)
        assert not running.done()
        service.process.terminate()
        assert len((await running)[0].rollouts) == 32
        assert await asyncio.to_thread(service.process.wait, 20) == 0
        assert events(service)[-1]["event"] == "stopped"
        await channel.close()


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (
            {"LANGPTUNE_PROFILE_MODEL": "/no/such/folder"},
            "encoder: cannot start: the model folder /no/such/folder does not exist",
        ),
        ({"LANGPTUNE_PROFILE_MODEL": "{folder}/weights"}, "is no model folder: it has no config.json"),
        ({"LANGPTUNE_ENCODER_PORT": "99999"}, "bad setting LANGPTUNE_ENCODER_PORT: Input should be less than or equal to 65535"),
    ],
)
def test_a_start_that_cannot_succeed_ends_with_a_sentence(folder: Path, trained: str, env: dict[str, str], sentence: str) -> None:
    filled = {name: value.format(folder=folder) for name, value in env.items()}
    ended = run_to_end({**environment(folder), "LANGPTUNE_ENCODER_PORT": str(free_port()), **filled})
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_ends_the_start_with_a_sentence(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run_to_end({**environment(folder), "LANGPTUNE_ENCODER_PORT": port})
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_resolved_settings_can_be_shown() -> None:
    shown = run_to_end({"LANGPTUNE_ENCODER_MAX_NEW_TOKENS": "99"}, "--print-config")
    assert shown.returncode == 0
    assert '"encoder_max_new_tokens": 99' in shown.stdout
