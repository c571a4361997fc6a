"""What only a cluster can do to a worker: room, images, memory, eviction, deadlines, and an API that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from langptune.errors import FailedPrecondition, Unavailable
from services.trainer.cluster.permissions import TRAINING
from services.trainer.jobs.kubernetes_job import job_name
from services.trainer.jobs.kubernetes_launcher import KubernetesLauncher
from services.trainer.jobs.launcher import Fault, Life, Sighting
from tests.integration.launchers.conftest import StartLauncher, settings_for
from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_world import KubernetesWorld

NAME = job_name("j", 1)
End = Callable[[KubernetesWorld], None]


async def _until(launcher: KubernetesLauncher, wanted: Callable[[Sighting], bool]) -> Sighting:
    seen: Any = None
    for _ in range(1_000):
        try:
            seen = await launcher.see("j")
            if wanted(seen):
                return seen
        except Unavailable as error:
            seen = error
        await asyncio.sleep(0.02)
    raise AssertionError(f"not seen: {seen}")


async def _gone(launcher: KubernetesLauncher) -> Sighting:
    return await _until(launcher, lambda seen: seen.life is Life.GONE)


async def _launched(cluster: KubernetesWorld, start: StartLauncher, processes: int = 1, **changes: Any) -> KubernetesLauncher:
    launcher = await start(**changes)
    await launcher.launch("j", 1, processes)
    cluster.run(NAME)
    await _until(launcher, lambda seen: seen.life is Life.RUNNING)
    return launcher


ENDS: list[tuple[str, End, str, Fault]] = [
    (
        "memory",
        lambda cluster: cluster.end(NAME, 1, code=137, reason="OOMKilled"),
        "ran out of memory (its pod's limit is 32Gi)",
        Fault.WORKER,
    ),
    (
        "defect",
        lambda cluster: cluster.end(NAME, 1, code=1, message="Traceback ...\nValueError: no such layer\n"),
        "ended with exit code 1 (ValueError: no such layer)",
        Fault.WORKER,
    ),
    (
        "drain",
        lambda cluster: cluster.evict(NAME, 1),
        "was evicted (EvictionByEvictionAPI): Eviction API: evicting",
        Fault.PLATFORM,
    ),
    (
        "pressure",
        lambda cluster: cluster.press(NAME, 1),
        "was evicted (Evicted): The node was low on resource: memory.",
        Fault.PLATFORM,
    ),
    ("deadline", lambda cluster: cluster.pass_deadline(NAME), "ran for longer than 604800 s", Fault.LASTING),
]


@pytest.mark.parametrize(("end", "why", "fault"), [each[1:] for each in ENDS], ids=[each[0] for each in ENDS])
async def test_the_cause_is_named(
    cluster: KubernetesWorld, start_launcher: StartLauncher, end: End, why: str, fault: Fault
) -> None:
    """Of two pods the second is hit; the first is ended because of it, and is not the cause."""
    launcher = await _launched(cluster, start_launcher, processes=2)
    end(cluster)
    assert await _gone(launcher) == Sighting(Life.GONE, why, fault)


async def test_an_eviction_is_known_to_a_later_trainer(cluster: KubernetesWorld, start_launcher: StartLauncher) -> None:
    """The pod's object is removed with it; the Job's own condition still tells a disruption from a defect."""
    launcher = await _launched(cluster, start_launcher)
    cluster.evict(NAME)
    await _gone(launcher)
    seen = await (await start_launcher()).see("j")
    assert seen.fault is Fault.PLATFORM
    assert seen.why.startswith("lost its machine: Pod langptune/")


async def test_a_pod_that_ended_well_without_the_job_being_done_is_a_defect(
    cluster: KubernetesWorld, start_launcher: StartLauncher
) -> None:
    launcher = await _launched(cluster, start_launcher)
    cluster.end(NAME)
    assert await _gone(launcher) == Sighting(Life.GONE, "ended with exit code 0, but had not finished the job")


async def test_what_a_worker_waits_for_is_told(cluster: KubernetesWorld, start_launcher: StartLauncher) -> None:
    launcher = await start_launcher(worker_queue="gpus")
    await launcher.launch("j", 1, 2)
    assert await launcher.see("j") == Sighting(Life.WAITING, "waits in the queue gpus")
    cluster.admit(NAME)
    cluster.no_room(NAME, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    seen = await _until(launcher, lambda seen: "room" in seen.why)
    assert seen.why == ("waits for its pods to start: no node has room (0/3 nodes are available: 3 Insufficient nvidia.com/gpu.)")
    assert (seen.life, seen.fault) == (Life.WAITING, Fault.WORKER)
    cluster.run(NAME)
    await _until(launcher, lambda seen: seen.life is Life.RUNNING)


async def test_an_image_that_is_missing_is_waited_for_a_while(cluster: KubernetesWorld, start_launcher: StartLauncher) -> None:
    patient, hasty = await start_launcher(), await start_launcher(worker_start_seconds=0.1)
    await patient.launch("j", 1, 1)
    cluster.hold_back(NAME, "ImagePullBackOff", "manifest unknown")
    why = "its image cannot be pulled (registry.example/trainer:1.0.0): manifest unknown"
    assert await _until(hasty, lambda seen: seen.fault is Fault.LASTING) == Sighting(Life.WAITING, why, Fault.LASTING)
    seen = await _until(patient, lambda seen: why in seen.why)
    assert (seen.life, seen.fault) == (Life.WAITING, Fault.WORKER)


async def test_news_of_a_worker_is_passed_on(cluster: KubernetesWorld, start_launcher: StartLauncher) -> None:
    news = asyncio.Event()
    launcher = await start_launcher(news.set)
    await launcher.launch("j", 1, 1)
    await asyncio.sleep(0.1)
    news.clear()
    cluster.run(NAME)
    await asyncio.wait_for(news.wait(), 10.0)


async def test_a_trainer_that_died_between_job_and_service_is_completed(
    cluster: KubernetesWorld, api: KubernetesApi, start_launcher: StartLauncher
) -> None:
    await (await start_launcher()).launch("j", 1, 2)
    api.remove("services", NAME)
    later = await start_launcher()
    assert (await later.see("j")).life is Life.WAITING
    assert api.get("services", NAME)["spec"]["clusterIP"] == "None"
    await later.see("j")


async def test_an_attempt_cannot_be_started_twice_not_even_by_two_trainers_at_once(
    cluster: KubernetesWorld, api: KubernetesApi, start_launcher: StartLauncher
) -> None:
    one, two = await start_launcher(), await start_launcher()
    outcomes = await asyncio.gather(one.launch("j", 1, 1), two.launch("j", 1, 1), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["FailedPrecondition", "NoneType"]
    assert len(api.all("jobs")) == len(api.all("pods")) == 1


async def test_all_of_a_job_goes_with_it(cluster: KubernetesWorld, api: KubernetesApi, start_launcher: StartLauncher) -> None:
    launcher = await _launched(cluster, start_launcher, processes=2)
    await launcher.stop("j")
    await _gone(launcher)
    assert [len(api.all(resource)) for resource in ("jobs", "pods", "services")] == [0, 0, 0]


async def test_a_pod_on_a_lost_node_is_forgotten_when_killed(
    cluster: KubernetesWorld, api: KubernetesApi, start_launcher: StartLauncher
) -> None:
    launcher = await _launched(cluster, start_launcher)
    cluster.obeys = False
    await launcher.kill("j")
    await _gone(launcher)
    assert api.all("pods") == []


@pytest.mark.parametrize("as_event", [True, False])
async def test_a_watch_that_has_expired_begins_anew(
    cluster: KubernetesWorld, api: KubernetesApi, start_launcher: StartLauncher, as_event: bool
) -> None:
    """410 Gone comes as an event of the watch, or as the answer to it."""
    launcher = await _launched(cluster, start_launcher)
    api.expired_as_event = as_event
    api.away = True
    await _until_unavailable(launcher)
    cluster.end(NAME, code=2)
    api.compact()
    api.away = False
    assert (await _gone(launcher)).why == "ended with exit code 2"


async def test_a_watch_that_is_cut_goes_on_where_it_was(
    cluster: KubernetesWorld, api: KubernetesApi, start_launcher: StartLauncher
) -> None:
    launcher = await _launched(cluster, start_launcher)
    api.cut_watches()
    cluster.end(NAME, code=2)
    assert (await _gone(launcher)).why == "ended with exit code 2"


async def _until_unavailable(launcher: KubernetesLauncher) -> None:
    for _ in range(1_000):
        try:
            await launcher.see("j")
        except Unavailable:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("still believed")


async def test_while_the_api_is_away_nobody_is_taken_for_dead(
    cluster: KubernetesWorld, api: KubernetesApi, start_launcher: StartLauncher
) -> None:
    launcher = await _launched(cluster, start_launcher)
    api.away = True
    await _until_unavailable(launcher)
    with pytest.raises(Unavailable):
        await launcher.launch("k", 1, 1)
    api.away = False
    await _until(launcher, lambda seen: seen.life is Life.RUNNING)


async def test_what_the_cluster_refuses_is_told(tmp_path: Path) -> None:
    async with KubernetesApi(TRAINING[1:]).serving(tmp_path) as api:
        with pytest.raises(FailedPrecondition, match=r"jobs is forbidden.*cannot list") as refused:
            await KubernetesLauncher(settings_for(api)).start(lambda: None)
        assert refused.value.reason == "KUBERNETES_FORBIDDEN"
    with pytest.raises(FailedPrecondition, match="LANGPTUNE_WORKER_IMAGE is not set"):
        await KubernetesLauncher(settings_for(api, worker_image="")).start(lambda: None)


async def test_every_permission_that_is_asked_for_is_used(
    cluster: KubernetesWorld, api: KubernetesApi, start_launcher: StartLauncher
) -> None:
    """And no other, or the API would have refused."""
    launcher = await _launched(cluster, start_launcher)
    await launcher.kill("j")
    await _gone(launcher)
    asked = {(resource, verb) for rule in TRAINING for resource in rule["resources"] for verb in rule["verbs"]}
    assert asked == api.used
