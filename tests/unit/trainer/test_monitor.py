"""What the trainer's metrics say of jobs, their events, the release in force and an open publish, over a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from prometheus_client.core import Metric
from redis.asyncio import Redis

from langptune.rpc.looking import Looking
from langptune.v1 import common_pb2, trainer_pb2
from langptune.weights import ReleaseRegistry
from services.trainer import metrics
from services.trainer.jobs.job import FAILED
from services.trainer.jobs.table import JobTable
from services.trainer.monitor import Monitor
from services.trainer.publishing.gate import Verdict
from services.trainer.publishing.publication import Publication, PublicationRecord, Step


@dataclass
class Desk:
    """The trainer's stores, and its monitor."""

    table: JobTable
    registry: ReleaseRegistry
    record: PublicationRecord
    monitor: Monitor

    async def job(self, job_id: str) -> None:
        await self.table.create(job_id, trainer_pb2.TrainingSpec(), resolved={}, parent_release_id="r1", steps_total=9)

    async def start(self, job_id: str) -> None:
        assert await self.table.start(await self.table.get(job_id)) is not None

    async def told(self) -> dict[str, dict[tuple[str, ...], float]]:
        """Sample name to label values to value, after a look."""
        return _samples(list(metrics.state(await self.monitor.look(), 0.0)))


def _samples(families: list[Metric]) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {family.name: {} for family in families}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


@pytest.fixture
async def desk(redis_url: str) -> AsyncIterator[Desk]:
    async with Redis.from_url(redis_url) as client:
        table, registry, record = JobTable(client), ReleaseRegistry(client), PublicationRecord(client, 5.0)
        yield Desk(table, registry, record, Monitor(table, registry, record))


def _step(phase: str, **values: float) -> trainer_pb2.TrainingEvent:
    return trainer_pb2.TrainingEvent(step_done=trainer_pb2.StepDone(phase=phase, step=3, steps_total=9, metrics=values))


async def test_nothing_has_happened_yet(desk: Desk) -> None:
    told = await desk.told()
    assert set(told["langptune_training_jobs"].values()) == {0.0}
    assert told["langptune_training_kl"] == {}
    assert told["langptune_release_info"] == {(): 1.0}
    assert told["langptune_publish_open_seconds"] == {(): 0.0}


async def test_jobs_are_counted_by_state(desk: Desk) -> None:
    for job_id in ("a", "b", "c"):
        await desk.job(job_id)
    for job_id in ("a", "b"):
        await desk.start(job_id)
    await desk.table.end("a", 1, FAILED, "no luck")
    counts = (await desk.told())["langptune_training_jobs"]
    assert counts == {("queued",): 1.0, ("running",): 1.0, ("succeeded",): 0.0, ("failed",): 1.0, ("cancelled",): 0.0}


async def test_a_running_job_tells_its_newest_step_of_each_phase(desk: Desk) -> None:
    await desk.job("j")
    await desk.start("j")
    await desk.table.append("j", 1, _step("cl", loss=2.0))
    await desk.table.append("j", 1, _step("rlso", loss=0.5, kl=7.0))
    first = await desk.told()
    assert first["langptune_training_loss"] == {("j", "cl"): 2.0, ("j", "rlso"): 0.5}
    assert first["langptune_training_kl"] == {("j", "rlso"): 7.0}
    assert (first["langptune_training_steps_done"], first["langptune_training_steps_planned"]) == ({("j",): 3.0}, {("j",): 9.0})
    ndcg = common_pb2.RankingMetrics(ndcg=0.25)
    done = trainer_pb2.ValidationDone(label="before", metrics=ndcg)
    await desk.table.append("j", 1, trainer_pb2.TrainingEvent(validation_done=done))
    await desk.table.append("j", 1, _step("rlso", loss=0.25, kl=8.0))
    second = await desk.told()
    assert second["langptune_training_kl"] == {("j", "rlso"): 8.0}
    assert second["langptune_training_validation_ndcg"] == {("j", "before"): 0.25}


async def test_the_series_of_a_job_end_with_it(desk: Desk) -> None:
    await desk.job("j")
    await desk.start("j")
    await desk.table.append("j", 1, _step("rlso", loss=0.5))
    assert (await desk.told())["langptune_training_loss"]
    await desk.table.end("j", 1, FAILED, "no luck")
    told = await desk.told()
    assert (told["langptune_training_loss"], told["langptune_training_steps_done"]) == ({}, {})


async def test_the_release_in_force_and_a_publish_that_hangs(desk: Desk) -> None:
    await desk.registry.ensure_first("e1", "d1", reason="first")
    begun = Publication.begin("r2", "r1", actor="", reason="", override_reason="", verdict=Verdict.OPEN)
    async with desk.record.lease() as lease:
        assert lease is not None
        await lease.write(begun)
        told = await desk.told()
        assert told["langptune_release_info"] == {("r1", "e1", "d1"): 1.0}
        assert told["langptune_publish_open_seconds"][()] >= 0.0
        await lease.write(begun.at(Step.FAILED, "a replica is away"))
        assert (await desk.told())["langptune_publish_open_seconds"] == {(): 0.0}


async def test_what_is_told_grows_old_while_redis_is_away() -> None:
    async with Redis.from_url("redis://127.0.0.1:9/0") as client:
        monitor = Monitor(JobTable(client), ReleaseRegistry(client), PublicationRecord(client, 5.0))
        looking = Looking(monitor.look, metrics.Seen(), 0.01)
        stopping = asyncio.Event()
        running = asyncio.create_task(looking.run(stopping))
        await asyncio.sleep(0.1)
        stopping.set()
        await running
        seen, age = looking.seen()
        assert seen == metrics.Seen()
        assert age >= 0.1


def test_every_metric_of_a_step_that_is_told_is_one() -> None:
    from dataclasses import fields

    from services.trainer.learning.progress import Progress, RolloutFigures

    assert set(metrics.STEP_METRICS) <= {field.name for field in (*fields(Progress), *fields(RolloutFigures))}
