"""Training and releases through the gateway: a real trainer behind it, its answers, errors and streams as they are."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from redis.asyncio import Redis

from langptune.client import JobState, LangPTune, StateChanged, TrainingSpec
from langptune.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from langptune.identity import DEVELOPMENT_SECRET, mint
from langptune.local.process import free_port
from langptune.weights import ReleaseRegistry
from tests.integration.gateway.world import World
from tests.support.processes import RunningService, running_service


@pytest.fixture(scope="module")
def trainer(world: World) -> Iterator[RunningService]:
    jobs = {"LANGPTUNE_JOBS_FOLDER": str(world.folder / "jobs"), "LANGPTUNE_POLL_SECONDS": "0.1"}
    with running_service("trainer", world.folder, world.env | jobs) as trainer:
        yield trainer


@pytest.fixture(scope="module")
def gateway(world: World, trainer: RunningService) -> Iterator[RunningService]:
    with world.another_gateway(LANGPTUNE_TRAINER_ADDRESS=trainer.address) as gateway:
        yield gateway


@pytest.fixture
async def lp(gateway: RunningService) -> AsyncIterator[LangPTune]:
    async with LangPTune(gateway.address, timeout=20.0) as client:
        yield client


async def test_releases(lp: LangPTune, world: World) -> None:
    live = await lp.get_live_release()
    assert (live.release_id, live.live) == (world.release.release_id, True)
    assert await lp.get_release(live.release_id) == live
    assert live in [release async for release in lp.list_releases(page_size=1)]
    published = await lp.publish_release(live.release_id, reason="again")
    assert (published.release, published.previous_release_id) == (live, live.release_id)


async def test_a_publish_is_recorded_under_the_tokens_subject(trainer: RunningService, world: World) -> None:
    settings = {"LANGPTUNE_TRAINER_ADDRESS": trainer.address, "LANGPTUNE_GATEWAY_AUTH": "jwt"}
    token = mint("the-operator", DEVELOPMENT_SECRET, scopes=["releases", "catalogue"])
    async with Redis.from_url(world.redis_url) as client:
        newer = await ReleaseRegistry(client).create(world.release.encoder_version, world.release.decoder_version)
    with world.another_gateway(**settings) as gateway:
        async with LangPTune(gateway.address, token=token, timeout=60.0) as lp:
            await lp.import_items(world.dataset.items.values())
            published = await lp.publish_release(newer.release_id, actor="somebody else", override_reason="never measured")
            assert published.publish.actor == "the-operator"
            rolled_back = await lp.rollback_release(actor="somebody else")
            assert (rolled_back.publish.actor, rolled_back.release.release_id) == ("the-operator", world.release.release_id)
    assert '"caller": "the-operator"' in gateway.log()


async def test_errors_keep_their_type_and_details(lp: LangPTune, world: World) -> None:
    with pytest.raises(NotFound) as missing:
        await lp.get_release("r999")
    assert (missing.value.resource, missing.value.identifier) == ("release", "r999")
    with pytest.raises(Aborted) as aborted:
        await lp.publish_release(world.release.release_id, expected_live_release_id="r999")
    assert aborted.value.etag == world.release.release_id
    with pytest.raises(InvalidArgument):
        await lp.create_training_job(TrainingSpec(dataset_uri=""))
    with pytest.raises(FailedPrecondition):
        await lp.create_training_job(TrainingSpec(dataset_uri="/nowhere/at/all"))
    with pytest.raises(NotFound, match="j-none"):
        await lp.get_training_job("j-none")
    with pytest.raises(NotFound, match="j-none"):
        async for _ in lp.watch_training_job("j-none"):
            pass


async def test_a_job_is_started_watched_and_cancelled(lp: LangPTune, world: World) -> None:
    await lp.import_items(world.dataset.items.values())
    spec = TrainingSpec(dataset_uri=str(world.dataset.folder), cl_batches=500, overrides={"contrastive.batch_size": "8"})
    job = await lp.create_training_job(spec, job_id="j-1")
    assert (job.job_id, job.spec) == ("j-1", spec)
    sequences: list[int] = []
    states: list[JobState] = []
    async for event in lp.watch_training_job("j-1", timeout=120.0):
        sequences.append(event.sequence)
        if isinstance(event.event, StateChanged):
            states.append(event.event.state)
        if len(sequences) == 3:
            await lp.cancel_training_job("j-1")
    assert sequences == list(range(1, len(sequences) + 1))
    assert states[-1] == JobState.CANCELLED
    assert (await lp.get_training_job("j-1")).state.ended
    assert [listed.job_id async for listed in lp.list_training_jobs()] == ["j-1"]
    again = [event.sequence async for event in lp.watch_training_job("j-1", after_sequence=2)]
    assert again == sequences[2:]


async def test_a_stopping_gateway_lets_watchers_go_on_elsewhere(trainer: RunningService, world: World, lp: LangPTune) -> None:
    """A watched job does not hold up the end of the gateway, and a watcher whose gateway comes back loses nothing."""
    await lp.import_items(world.dataset.items.values())
    spec = TrainingSpec(dataset_uri=str(world.dataset.folder), cl_batches=500, overrides={"contrastive.batch_size": "8"})
    await lp.create_training_job(spec, job_id="j-2")
    env = world.env | {"LANGPTUNE_TRAINER_ADDRESS": trainer.address}
    port = free_port()
    seen: list[int] = []
    begun = asyncio.Event()

    async def watch(address: str) -> None:
        async with LangPTune(address) as watcher:
            async for event in watcher.watch_training_job("j-2"):
                seen.append(event.sequence)
                begun.set()

    with running_service("gateway", world.folder, env, port=port) as first:
        watching = asyncio.create_task(watch(first.address))
        await asyncio.wait_for(begun.wait(), 30)
        first.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert await asyncio.to_thread(first.process.wait, 10) == 0
        assert time.monotonic() - started < 5.0
    with running_service("gateway", world.folder, env, port=port):
        await lp.cancel_training_job("j-2")
        await asyncio.wait_for(watching, 60)
    assert seen == list(range(1, len(seen) + 1))
    assert (await lp.get_training_job("j-2")).state == JobState.CANCELLED


async def test_without_the_trainer(world: World) -> None:
    async with LangPTune(world.gateway.address) as lp:
        with pytest.raises(Unavailable):
            await lp.get_live_release()


async def test_reflection_names_every_service(gateway: RunningService) -> None:
    def names() -> set[str]:
        with grpc.insecure_channel(gateway.address) as channel:
            return set(ProtoReflectionDescriptorDatabase(channel).get_services())

    own = {"RecommendationService", "ProfileService", "InteractionService", "CatalogService", "TrainerService", "ReleaseService"}
    assert {f"langptune.v1.{name}" for name in own} <= await asyncio.to_thread(names)
