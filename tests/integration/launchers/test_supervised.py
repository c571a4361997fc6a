"""A supervisor, a real job table and a stand-in cluster: the state of a job follows what happens to its pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import redis.asyncio as redis

from langptune.v1 import trainer_pb2 as pb
from langptune.weights import ReleaseRegistry, WeightsStore
from services.trainer.jobs.cleaning import Cleaner
from services.trainer.jobs.job import CANCELLED, QUEUED, RUNNING, Job
from services.trainer.jobs.kubernetes_job import job_name
from services.trainer.jobs.supervisor import Supervisor
from services.trainer.jobs.table import JobTable
from services.trainer.peers import Peers
from tests.integration.launchers.conftest import StartLauncher, settings_for
from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_world import KubernetesWorld

StartTrainer = Callable[[], Awaitable[Supervisor]]


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[redis.Redis]:
    async with redis.Redis.from_url(redis_url, socket_timeout=5.0) as client:
        yield client


@pytest.fixture
def table(store: redis.Redis) -> JobTable:
    return JobTable(store)


@pytest.fixture
def start_trainer(
    table: JobTable, store: redis.Redis, api: KubernetesApi, start_launcher: StartLauncher, tmp_path: Path
) -> StartTrainer:
    """What of a trainer looks after jobs; each call is another one's."""

    async def start() -> Supervisor:
        settings = settings_for(api, jobs_folder=str(tmp_path / "jobs"), weights_uri=str(tmp_path / "weights"))
        registry = ReleaseRegistry(store)
        weights = WeightsStore(settings.weights_uri, tmp_path / "cache")
        return Supervisor(table, await start_launcher(), Cleaner(settings, weights, Peers(settings), registry), settings)

    return start


async def _until(trainer: Supervisor, table: JobTable, wanted: Callable[[Job], bool]) -> Job:
    for _ in range(1_000):
        await trainer.look()
        if wanted(job := await table.get("j")):
            return job
        await asyncio.sleep(0.01)
    raise AssertionError(f"not so: {job}")


async def test_a_job_lives_through_an_eviction_and_two_trainers(
    table: JobTable, api: KubernetesApi, cluster: KubernetesWorld, start_trainer: StartTrainer
) -> None:
    await table.create("j", pb.TrainingSpec(), resolved={"distributed.processes": "2"}, parent_release_id="r1", steps_total=5)
    first = await start_trainer()
    await first.look()
    cluster.run(job_name("j", 1))
    second = await start_trainer()  # while the first still looks, as in a rolling update
    for trainer in (first, second):
        await _until(trainer, table, lambda job: (job.state, job.attempt) == (RUNNING, 1))
    assert len(api.all("jobs")) == 1
    cluster.evict(job_name("j", 1), 1)
    job = await _until(second, table, lambda job: job.state == QUEUED)
    assert job.restarts == 0
    assert job.last_interruption == (
        "the worker was evicted (EvictionByEvictionAPI): Eviction API: evicting; another one goes on from the checkpoint"
    )
    await _until(second, table, lambda job: (job.state, job.attempt) == (RUNNING, 2))
    assert [len(api.all("pods", **{"langptune.io/attempt": "2"})), len(api.all("services"))] == [2, 2]


async def test_a_cancelled_job_that_waits_for_room_leaves_nothing(
    table: JobTable, api: KubernetesApi, cluster: KubernetesWorld, start_trainer: StartTrainer
) -> None:
    await table.create("j", pb.TrainingSpec(), resolved={}, parent_release_id="r1", steps_total=5)
    trainer = await start_trainer()
    await trainer.look()
    cluster.no_room(job_name("j", 1), "0/3 nodes are available")
    await table.request_cancel("j")
    await _until(trainer, table, lambda job: job.state == CANCELLED)
    assert [len(api.all(resource)) for resource in ("jobs", "pods", "services")] == [0, 0, 0]
