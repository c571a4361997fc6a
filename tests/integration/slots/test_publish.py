"""Publishing between two slots: under load, from a trainer that dies at any step, and with a slot that does not come up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from langptune.errors import FailedPrecondition, LangPTuneError
from langptune.weights import Release
from services.trainer.cluster.permissions import SLOTS
from services.trainer.publishing.publication import Step
from tests.integration.slots.world import Died, Trainer, World, running_world
from tests.support.kubernetes_api import KubernetesApi

BLUE, GREEN = "tgi-blue", "tgi-green"


@pytest.fixture
async def world(tmp_path: Path, redis_url: str) -> AsyncIterator[World]:
    async with KubernetesApi(SLOTS).serving(tmp_path) as api, running_world(tmp_path, redis_url, api) as world:
        yield world


class Users:
    """Ask for profiles under whatever release is live, and keep what went wrong."""

    def __init__(self) -> None:
        self.answered: list[str] = []  # encoder versions
        self.wrong: list[str] = []


@asynccontextmanager
async def asking(world: World, trainer: Trainer) -> AsyncIterator[Users]:
    users, over = Users(), asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            version = (await trainer.registry.live()).encoder_version
            try:
                text = await world.write(version)
            except LangPTuneError as error:
                users.wrong.append(f"{version}: {error.message}")
                return
            users.answered.append(version)
            if text != world.texts.setdefault(version, text):
                users.wrong.append(f"{version} wrote {text!r}, and {world.texts[version]!r} before")
                return

    tasks = [asyncio.create_task(ask()) for _ in range(3)]
    try:
        yield users
    finally:
        over.set()
        await asyncio.gather(*tasks)


async def _done(trainer: Trainer, release: Release) -> None:
    for _ in range(3_000):
        found = await trainer.record.read()
        if found and found.release_id == release.release_id and found.step is Step.DONE:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not done: {found}")


async def _stopped(world: World, slot: str) -> None:
    for _ in range(1_000):
        if not world.cluster.serves(slot):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{slot} still serves {world.cluster.serves(slot)}")


def _model(world: World, release: Release) -> str:
    return f"{world.folder}/weights/encoder/{release.encoder_version}"


async def test_releases_change_slots_under_load_and_no_call_fails(world: World) -> None:
    """Four publishes, the last two are rollbacks. What a version writes never changes, and differs between versions."""
    async with world.trainer() as trainer, asking(world, trainer) as users:
        for at, slot in ((1, GREEN), (2, BLUE), (1, GREEN), (0, BLUE)):
            await trainer.publish(world.releases[at])
            await _done(trainer, world.releases[at])
            assert world.cluster.serves(slot) == _model(world, world.releases[at])
            await _stopped(world, GREEN if slot == BLUE else BLUE)  # the GPU is free again
            await asyncio.sleep(0.1)
    assert users.wrong == []
    assert {release.encoder_version for release in world.releases} == set(users.answered)
    assert len(set(world.texts.values())) == 3


@pytest.mark.parametrize("moment", ["load", "slot", "verify", "flip", "drain", "retire"])
async def test_a_trainer_that_dies_at_a_step_is_finished_by_the_next(world: World, moment: str) -> None:
    """It dies when it has told the record of the step, or has asked for the slot; users ask all the while."""
    release = world.releases[1]
    async with world.trainer() as watching, asking(world, watching) as users:
        watching.stopping.set()  # it does nothing but read
        async with world.trainer(dies_at=moment) as dying:
            with suppress(Died):
                await dying.publish(release)
            for _ in range(3_000):
                if dying.dead:
                    break
                await asyncio.sleep(0.02)
        stopped = await watching.record.read()
        assert stopped is not None
        assert stopped.step == ("load" if moment == "slot" else moment)
        live = (await watching.registry.live()).release_id
        assert live == (release.release_id if stopped.flipped else world.releases[0].release_id)
        async with world.trainer() as trainer:
            await _done(trainer, release)
            assert (await trainer.registry.live()).release_id == release.release_id
        await _stopped(world, BLUE)
        assert world.cluster.serves(GREEN) == _model(world, release)
        assert len(world.cluster.started) == 2  # the slot was brought up once, whoever died
        await asyncio.sleep(0.1)
    assert users.wrong == []
    assert users.answered[-1] == release.encoder_version


async def test_a_slot_that_does_not_come_up_leaves_the_release_before(world: World) -> None:
    release = world.releases[1]
    world.cluster.broken = Path(_model(world, release))
    async with world.trainer() as trainer:
        with pytest.raises(FailedPrecondition, match="did not come up: ReplicaSet") as failed:
            await trainer.publish(release)
        assert failed.value.reason == "SLOT_FAILED"
        found = await trainer.publisher.current()
        assert (found.step, found.error) == (Step.FAILED, failed.value.message)
        assert (await trainer.registry.live()).release_id == world.releases[0].release_id
        await world.write(world.releases[0].encoder_version)
        world.cluster.broken = None
        await trainer.publish(release)
        await world.write(release.encoder_version)
