"""A publish and real processes that are killed at it: the trainer at each step, the decoder at a load; and bad files."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
import redis.asyncio as redis

from langptune.errors import FailedPrecondition, LangPTuneError, Unavailable
from langptune.v1 import trainer_pb2 as pb
from langptune.weights import KINDS, Manifest, Release, ReleaseRegistry, WeightsStore
from services.trainer.publishing.publication import Publication, PublicationRecord, Step
from tests.integration.trainer.world import MODELS, Client, World
from tests.support.processes import start_service

_SOURCES = {"encoder": "profile-writer", "decoder": "embedder"}
_ORDER = list(Step)


async def _candidate(world: World, name: str) -> Release:
    """A release of versions of its own: the sample models, stored under another name."""
    store = WeightsStore(world.env["LANGPTUNE_WEIGHTS_URI"], world.folder / "unused")
    pair = []
    for kind in KINDS:
        manifest = Manifest(f"job-{name}", kind, "base", job_id=name)
        pair.append((await asyncio.to_thread(store.add, MODELS / _SOURCES[kind], manifest)).version)
    async with redis.Redis.from_url(world.env["LANGPTUNE_REDIS_URL"]) as client:
        return await ReleaseRegistry(client).create(*pair)


async def _record(world: World) -> Publication | None:
    async with redis.Redis.from_url(world.env["LANGPTUNE_REDIS_URL"]) as client:
        return await PublicationRecord(client, 1.0).read()


async def _live(world: World) -> str:
    async with redis.Redis.from_url(world.env["LANGPTUNE_REDIS_URL"]) as client:
        return (await ReleaseRegistry(client).live()).release_id


async def _publish(client: Client, release: Release) -> pb.PublishReleaseResponse:
    request = pb.PublishReleaseRequest(release_id=release.release_id, actor="ann", reason="test", override_reason="test")
    answer: pb.PublishReleaseResponse = await client.releases.PublishRelease(request, timeout=120.0)
    return answer


async def _reached(world: World, release: Release, step: Step) -> Publication:
    """The record, once it is of this release and at `step` or beyond."""
    async with redis.Redis.from_url(world.env["LANGPTUNE_REDIS_URL"]) as client:
        record = PublicationRecord(client, 1.0)
        end = time.monotonic() + 90
        while time.monotonic() < end:
            found = await record.read()
            if found and found.release_id == release.release_id and _ORDER.index(found.step) >= _ORDER.index(step):
                return found
            await asyncio.sleep(0)
    raise AssertionError(f"{release.release_id} has not come to {step}: {found}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", [Step.LOAD, Step.VERIFY, Step.FLIP, Step.DRAIN, Step.RETIRE])
async def test_a_trainer_killed_at_a_step_is_finished_by_the_next(world: World, step: Step) -> None:
    release = await _candidate(world, f"killed-{step}")
    before = await _live(world)
    async with world.client() as client:
        if step is Step.LOAD:
            world.decoder.process.send_signal(signal.SIGSTOP)  # it takes its time
        publishing = asyncio.create_task(_publish(client, release))
        await _reached(world, release, step)
        world.trainer.process.send_signal(signal.SIGSTOP)  # nothing moves from here on; then it dies
        stopped = await _record(world)
        assert stopped is not None
        assert await _live(world) == (release.release_id if stopped.flipped else before)
        world.trainer.kill()
        world.decoder.process.send_signal(signal.SIGCONT)
        await asyncio.gather(publishing, return_exceptions=True)
    assert await _live(world) == (release.release_id if stopped.flipped else before)
    await asyncio.to_thread(world.start_trainer)
    finished = await _reached(world, release, Step.DONE)
    assert (finished.step, finished.publish_id, finished.previous) == (Step.DONE, stopped.publish_id, before)
    async with world.client() as client:
        assert (await client.live()).release_id == release.release_id
        assert (await client.releases.VerifyRelease(pb.VerifyReleaseRequest(), timeout=60.0)).verified
        moves = (await client.releases.ListReleaseMoves(pb.ListReleaseMovesRequest(page_size=2))).moves
        assert (moves[0].release_id, moves[0].actor, moves[0].override_reason) == (release.release_id, "ann", "test")
        assert moves[0].previous_release_id == before == moves[1].release_id


@pytest.mark.timeout(400)
async def test_a_decoder_killed_while_it_loads_leaves_the_release_before(world: World) -> None:
    release = await _candidate(world, "decoder-killed")
    before = await _live(world)
    async with world.client() as client:
        world.decoder.process.send_signal(signal.SIGSTOP)
        publishing = asyncio.create_task(_publish(client, release))
        await _reached(world, release, Step.LOAD)
        world.decoder.kill()
        with pytest.raises(LangPTuneError) as failed:
            await publishing
        assert isinstance(failed.value, Unavailable)
        told = (await client.releases.GetPublish(pb.GetPublishRequest())).publish
        assert (told.step, told.release_id) == (pb.PUBLISH_STEP_FAILED, release.release_id)
        assert (await client.live()).release_id == before
        port = world.decoder.port
        world.decoder = await asyncio.to_thread(start_service, "decoder", world.folder, world.env, port=port)
        await _publish(client, release)
        assert (await client.live()).release_id == release.release_id


@pytest.mark.timeout(300)
async def test_files_that_were_changed_after_a_publish_are_found_out(world: World) -> None:
    release = await _candidate(world, "tampered")
    async with world.client() as client:
        await _publish(client, release)
        clean = await client.releases.VerifyRelease(pb.VerifyReleaseRequest(), timeout=60.0)
        assert clean.verified
        assert [(check.kind, bool(check.digest), list(check.problems)) for check in clean.replicas] == [
            ("encoder", True, []),
            ("decoder", True, []),
        ]
        assert clean.replicas[0].golden_log_prob < 0
        assert (clean.replicas[1].items, clean.replicas[1].overlap) == (60, 1.0)
        config = Path(world.env["LANGPTUNE_WEIGHTS_URI"]) / "encoder" / release.encoder_version / "config.json"
        content = config.read_text()
        config.write_text(content + " ")
        found = await client.releases.VerifyRelease(pb.VerifyReleaseRequest(), timeout=60.0)
        assert not found.verified
        assert list(found.replicas[0].problems) == ["its files are not those that were published"]
        config.write_text(content)
        config.touch()
        assert (await client.releases.VerifyRelease(pb.VerifyReleaseRequest(), timeout=60.0)).verified
        spoiled = await _candidate(world, "spoiled")
        broken = Path(world.env["LANGPTUNE_WEIGHTS_URI"]) / "encoder" / spoiled.encoder_version / "config.json"
        os.truncate(broken, 3)
        with pytest.raises(FailedPrecondition):
            await _publish(client, spoiled)
        assert (await client.live()).release_id == release.release_id
