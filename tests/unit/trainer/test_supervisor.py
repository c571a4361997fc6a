"""The supervisor against a real job table: order, replacement of dead workers, signs of life, handing back.

Workers are stood in for by a launcher that keeps a list; the real one, with real workers, is in tests/integration/trainer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from langptune.errors import FailedPrecondition, LangPTuneError, Unavailable
from langptune.v1 import trainer_pb2 as pb
from langptune.weights import ReleaseRegistry, WeightsStore
from services.trainer.jobs.cleaning import Cleaner
from services.trainer.jobs.job import CANCELLED, FAILED, QUEUED, RUNNING, Job
from services.trainer.jobs.launcher import Fault, Life, Sighting
from services.trainer.jobs.supervisor import Supervisor
from services.trainer.jobs.table import JobTable
from services.trainer.peers import Peers
from services.trainer.settings import TrainerSettings


class Workers:
    """A launcher whose workers live until they are told to end."""

    keeps_workers = False

    def __init__(self) -> None:
        self.living: set[str] = set()
        self.launched: list[tuple[str, int]] = []
        self.asked: list[str] = []
        self.broken: LangPTuneError | None = None
        self.waiting: Sighting | None = None  # what is seen of those that live
        self.ending = Sighting(Life.GONE, "was ended by signal 9")
        self.started = asyncio.Event()

    async def start(self, on_change: Callable[[], None]) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def launch(self, job_id: str, attempt: int, processes: int) -> None:
        if self.broken:
            raise self.broken
        self.launched.append((job_id, attempt))
        self.living.add(job_id)
        self.started.set()

    async def see(self, job_id: str) -> Sighting:
        return (self.waiting or Sighting(Life.RUNNING)) if job_id in self.living else self.ending

    async def stop(self, job_id: str) -> None:
        self.asked.append(job_id)

    async def kill(self, job_id: str) -> None:
        self.living.discard(job_id)

    def log_of(self, job_id: str) -> str:
        return "the job's worker.log"


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
def start(store: redis.Redis, table: JobTable, workers: Workers, tmp_path: Path) -> Any:
    def supervisor(**values: Any) -> Supervisor:
        settings = TrainerSettings(
            jobs_folder=str(tmp_path / "jobs"),
            weights_uri=str(tmp_path / "weights"),
            poll_seconds=0.01,
            worker_grace=0.1,
            **values,
        )
        weights = WeightsStore(settings.weights_uri, tmp_path / "cache")
        return Supervisor(table, workers, Cleaner(settings, weights, Peers(settings), ReleaseRegistry(store)), settings)

    return supervisor


async def _create(table: JobTable, *names: str) -> None:
    for name in names:
        await table.create(name, pb.TrainingSpec(), resolved={}, parent_release_id="r1", steps_total=5)


async def _states(table: JobTable, *names: str) -> list[int]:
    return [(await table.get(name)).state for name in names]


async def _job(table: JobTable, name: str) -> Job:
    return await table.get(name)


async def test_jobs_run_one_after_the_other_in_order(table: JobTable, workers: Workers, start: Any) -> None:
    await _create(table, "a", "b")
    supervisor = start()
    await supervisor.look()
    await supervisor.look()
    assert await _states(table, "a", "b") == [RUNNING, QUEUED]
    await table.end("a", 1, FAILED, "")
    workers.living.clear()
    await supervisor.look()
    assert workers.launched == [("a", 1), ("b", 1)]


async def test_several_jobs_run_at_once_if_the_setting_says_so(table: JobTable, workers: Workers, start: Any) -> None:
    await _create(table, "a", "b", "c")
    await start(max_running_jobs=2).look()
    assert await _states(table, "a", "b", "c") == [RUNNING, RUNNING, QUEUED]


async def test_a_dead_worker_is_replaced_a_bounded_number_of_times(table: JobTable, workers: Workers, start: Any) -> None:
    await _create(table, "a")
    supervisor = start(max_restarts=2)
    for _ in range(8):
        await supervisor.look()
        workers.living.clear()
    assert workers.launched == [("a", 1), ("a", 2), ("a", 3)]
    job = await _job(table, "a")
    assert job.state == FAILED
    assert job.error == (
        "the worker was ended by signal 9 after 0 of 5 steps; it had been replaced 2 times; the job's worker.log has the rest"
    )
    reason = "the worker was ended by signal 9; restart {} of 2 goes on from the checkpoint"
    assert (job.attempt, job.restarts, job.last_interruption) == (3, 2, reason.format(2))
    told = [event.state_changed.message for event in await table.events("a", 0)]
    assert [message for message in told if "restart" in message] == [reason.format(1), reason.format(2)]


async def test_a_dead_worker_of_a_cancelled_job_is_not_replaced(table: JobTable, workers: Workers, start: Any) -> None:
    await _create(table, "a")
    supervisor = start()
    await supervisor.look()
    await table.request_cancel("a")
    workers.living.clear()
    await supervisor.look()
    assert await _states(table, "a") == [CANCELLED]


async def test_a_worker_without_a_sign_of_life_is_ended(table: JobTable, workers: Workers, start: Any) -> None:
    await _create(table, "a")
    supervisor = start(worker_lost_seconds=1.5)
    for _ in range(10):
        await supervisor.look()
        await table.beat("a", 1)
        await asyncio.sleep(0.05)
    assert workers.launched == [("a", 1)]
    while len(workers.launched) < 2:  # or the test's time is over
        await supervisor.look()
        await asyncio.sleep(0.05)
    assert workers.launched == [("a", 1), ("a", 2)]


async def test_a_job_waits_for_its_last_worker_to_be_gone(table: JobTable, workers: Workers, start: Any) -> None:
    """A worker tells that the job is handed back, or has failed, a moment before its process ends."""
    await _create(table, "a")
    supervisor = start(worker_lost_seconds=0.2)
    await supervisor.look()
    await table.end("a", 1, FAILED, "no disk")
    await table.resume("a", {}, {})
    await supervisor.look()
    assert (await _states(table, "a"), workers.launched) == ([QUEUED], [("a", 1)])
    workers.living.clear()
    await supervisor.look()
    assert (await _states(table, "a"), workers.launched) == ([RUNNING], [("a", 1), ("a", 2)])
    await table.requeue("a", 2, "stopped", 0)
    for _ in range(10):  # this one does not end by itself
        await supervisor.look()
        await asyncio.sleep(0.05)
    assert workers.launched == [("a", 1), ("a", 2), ("a", 3)]


async def test_a_worker_that_was_there_before_the_trainer_is_followed(table: JobTable, workers: Workers, start: Any) -> None:
    await _create(table, "a")
    await start().look()
    await start().look()  # another trainer
    assert workers.launched == [("a", 1)]


async def test_a_trainer_that_stops_has_jobs_handed_back_without_a_restart(table: JobTable, workers: Workers, start: Any) -> None:
    await _create(table, "a")
    stopping = asyncio.Event()
    running = asyncio.create_task(start().run(stopping))
    await asyncio.wait_for(workers.started.wait(), 5.0)
    stopping.set()
    await asyncio.wait_for(running, 5.0)  # this worker ignores being asked, and is ended
    job = await _job(table, "a")
    assert (workers.asked, workers.living) == (["a"], set())
    assert (job.state, job.restarts) == (QUEUED, 0)


async def test_a_job_that_cannot_be_launched_fails(table: JobTable, workers: Workers, start: Any) -> None:
    await _create(table, "a")
    workers.broken = FailedPrecondition("no room")
    await start().look()
    job = await _job(table, "a")
    assert (job.state, job.error) == (FAILED, "no worker could be started: no room")


async def test_a_launcher_that_cannot_be_asked_costs_no_restart(table: JobTable, workers: Workers, start: Any) -> None:
    await _create(table, "a")
    workers.broken = Unavailable("the API is away")
    supervisor = start(max_restarts=0)
    await supervisor.look()
    job = await _job(table, "a")
    assert (job.state, job.restarts) == (QUEUED, 0)
    assert job.last_interruption == "no worker could be started yet: the API is away"
    workers.broken = None
    await supervisor.look()
    assert workers.launched == [("a", 2)]


async def test_a_worker_whose_machine_was_taken_away_is_replaced_at_no_cost(
    table: JobTable, workers: Workers, start: Any
) -> None:
    await _create(table, "a")
    workers.ending = Sighting(Life.GONE, "was evicted", Fault.PLATFORM)
    supervisor = start(max_restarts=0)
    for _ in range(6):
        await supervisor.look()
        workers.living.clear()
    assert workers.launched == [("a", 1), ("a", 2), ("a", 3)]
    job = await _job(table, "a")
    assert (job.restarts, job.last_interruption) == (0, "the worker was evicted; another one goes on from the checkpoint")


async def test_what_every_attempt_would_meet_is_not_tried_again(table: JobTable, workers: Workers, start: Any) -> None:
    await _create(table, "a")
    workers.ending = Sighting(Life.GONE, "ran for longer than 60 s", Fault.LASTING)
    supervisor = start(max_restarts=2)
    await supervisor.look()
    workers.living.clear()
    await supervisor.look()
    job = await _job(table, "a")
    assert (job.state, workers.launched) == (FAILED, [("a", 1)])
    assert job.error == "the worker ran for longer than 60 s after 0 of 5 steps; the job's worker.log has the rest"


async def test_what_a_worker_waits_for_is_told_once_and_it_is_never_late(table: JobTable, workers: Workers, start: Any) -> None:
    await _create(table, "a")
    supervisor = start(worker_lost_seconds=0.05)
    workers.waiting = Sighting(Life.WAITING, "waits in the queue gpus")
    for _ in range(5):
        await supervisor.look()
        await asyncio.sleep(0.05)
    told = [event.state_changed.message for event in await table.events("a", 0)]
    assert told.count("the worker waits in the queue gpus") == 1
    assert workers.launched == [("a", 1)]
    workers.waiting = Sighting(Life.WAITING, "its image cannot be pulled", Fault.LASTING)
    await supervisor.look()
    job = await _job(table, "a")
    assert (job.state, job.error) == (FAILED, "no worker could be started: its image cannot be pulled")
    assert workers.living == set()


async def test_a_worker_of_an_attempt_that_is_over_and_has_not_begun_is_not_waited_for(
    table: JobTable, workers: Workers, start: Any
) -> None:
    await _create(table, "a")
    workers.living.add("a")
    workers.waiting = Sighting(Life.WAITING, "waits for its pods to start")
    supervisor = start()
    await supervisor.look()
    await supervisor.look()
    assert workers.launched == [("a", 1)]


async def test_the_worker_of_a_cancelled_job_is_asked_to_end_once(table: JobTable, workers: Workers, start: Any) -> None:
    await _create(table, "a")
    supervisor = start()
    await supervisor.look()
    await table.request_cancel("a")
    await supervisor.look()
    await supervisor.look()
    assert workers.asked == ["a"]
    workers.living.clear()
    await supervisor.look()
    assert await _states(table, "a") == [CANCELLED]


async def test_workers_that_outlive_trainers_are_left_alone_when_one_stops(table: JobTable, workers: Workers, start: Any) -> None:
    await _create(table, "a")
    workers.keeps_workers = True
    stopping = asyncio.Event()
    running = asyncio.create_task(start().run(stopping))
    await asyncio.wait_for(workers.started.wait(), 5.0)
    stopping.set()
    await asyncio.wait_for(running, 5.0)
    assert (await _states(table, "a"), workers.asked, workers.living) == ([RUNNING], [], {"a"})
