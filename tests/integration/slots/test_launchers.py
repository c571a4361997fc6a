"""What both slot launchers promise: processes of this machine, and Deployments of a stand-in cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from langptune.errors import FailedPrecondition, NotFound
from services.trainer.cluster.permissions import SLOTS
from services.trainer.publishing.kubernetes_slots import KubernetesSlots
from services.trainer.publishing.local_slots import LocalSlots
from services.trainer.publishing.slots import Slot, SlotLauncher
from services.trainer.settings import TrainerSettings
from tests.support.kubernetes_api import KubernetesApi
from tests.support.micro_writer import save_micro_writer
from tests.support.tgi_slots import NAMES, TgiDeployments

_SERVER = '#!/bin/sh\n[ "$2" = {broken} ] && exit 3\nwhile true; do sleep 0.05; done\n'


class Place:
    """Two slots, and another launcher to them: a later trainer's."""

    def __init__(self, names: tuple[str, str], launcher: Callable[[], SlotLauncher], good: str, bad: str) -> None:
        self.names, self.launcher, self.good, self.bad = names, launcher, good, bad


@pytest.fixture(params=["processes", "deployments"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    good, bad = str(tmp_path / "good"), str(tmp_path / "bad")
    if request.param == "processes":
        script = tmp_path / "server"
        script.write_text(_SERVER.format(broken=bad))
        script.chmod(0o755)
        command = f"{script} --model-id {{model}} --port {{port}}"
        settings = TrainerSettings(tgi_command=command, tgi_folder=str(tmp_path / "slots"), tgi_stop_seconds=20.0)
        launcher = LocalSlots(settings)
        await launcher.start()
        yield Place(("8081", "8082"), lambda: launcher, good, bad)
        for slot in await launcher.slots():
            await launcher.stop(slot.name)
        return
    save_micro_writer(Path(good))
    async with KubernetesApi(SLOTS).serving(tmp_path) as api:
        deployments = TgiDeployments(api)
        deployments.broken = Path(bad)
        await deployments.start()
        cluster = KubernetesSlots(TrainerSettings(kubernetes_config=str(api.kubeconfig)))
        await cluster.start()
        yield Place(NAMES, lambda: cluster, good, bad)
        await cluster.close()
        await deployments.close()


async def _until(launcher: SlotLauncher, wanted: Callable[[list[Slot]], bool]) -> list[Slot]:
    for _ in range(1_000):
        if wanted(slots := await launcher.slots()):
            return slots
        await asyncio.sleep(0.02)
    raise AssertionError(slots)


async def test_a_slot_serves_what_it_was_told_until_it_is_stopped(place: Place) -> None:
    launcher, (blue, green) = place.launcher(), place.names
    assert await launcher.slots() == [Slot(blue, ""), Slot(green, "")]
    await launcher.bring_up(green, place.good)
    await launcher.bring_up(green, place.good)  # again: the same
    assert await launcher.slots() == [Slot(blue, ""), Slot(green, place.good)]
    await launcher.bring_up(blue, place.good)
    await launcher.stop(green)
    await launcher.stop(green)
    assert await launcher.slots() == [Slot(blue, place.good), Slot(green, "")]


async def test_a_slot_that_does_not_come_up_says_so_and_can_be_used_again(place: Place) -> None:
    launcher, (blue, _) = place.launcher(), place.names
    await launcher.bring_up(blue, place.bad)
    slots = await _until(launcher, lambda slots: bool(slots[0].problem))
    assert (slots[0].model, slots[1].problem) == (place.bad, "")
    assert slots[0].problem.startswith(("ended with exit code 3", "did not come up: ReplicaSet"))
    await launcher.bring_up(blue, place.good)
    assert (await launcher.slots())[0] == Slot(blue, place.good)


async def test_a_local_slot_outlives_its_trainer_and_is_ended_by_the_next(tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_text("#!/bin/sh\ntrap '' TERM\nwhile true; do sleep 0.05; done\n")
    script.chmod(0o755)
    settings = TrainerSettings(tgi_command=f"{script} {{model}}", tgi_folder=str(tmp_path / "slots"), tgi_stop_seconds=0.3)
    first, second = LocalSlots(settings), LocalSlots(settings)
    await first.start()
    await first.bring_up("8081", "a/model")
    assert (await second.slots())[0] == Slot("8081", "a/model")
    await asyncio.sleep(0.2)  # it sets its trap
    await second.stop("8081")  # it does not heed
    assert await first.slots() == await second.slots() == [Slot("8081", ""), Slot("8082", "")]
    await first.stop("8081")


async def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    launcher = LocalSlots(TrainerSettings(tgi_command="no-such-program", tgi_folder=str(tmp_path)))
    await launcher.bring_up("8081", "a/model")
    slots = await _until(launcher, lambda slots: bool(slots[0].problem))
    assert slots[0].problem == "ended with exit code 127"
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition, match="cannot be written"):
        await LocalSlots(TrainerSettings(tgi_folder=str(tmp_path / "file" / "slots"))).start()


async def test_the_cluster_is_asked_for_two_deployments_and_nothing_else(tmp_path: Path) -> None:
    async with KubernetesApi(SLOTS).serving(tmp_path) as api:
        other = KubernetesSlots(TrainerSettings(kubernetes_config=str(api.kubeconfig), tgi_deployments="langptune-gateway"))
        missing = KubernetesSlots(TrainerSettings(kubernetes_config=str(api.kubeconfig)))
        await asyncio.gather(other.start(), missing.start())
        with pytest.raises(FailedPrecondition, match="cannot get"):
            await other.slots()
        with pytest.raises(NotFound):
            await missing.slots()
        await asyncio.gather(other.close(), missing.close())
