"""The job table on a real Redis: its state machine, its fences, and events without gaps."""

from __future__ import annotations

import asyncio

import pytest

from langptune.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from langptune.v1 import trainer_pb2 as pb
from services.trainer.jobs.job import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, Job
from services.trainer.jobs.table import JobTable, Superseded

SPEC = pb.TrainingSpec(dataset_uri="data", seed=3, overrides={"b": "2", "a": "1"})


async def _created(table: JobTable, job_id: str = "j") -> Job:
    return await table.create(job_id, SPEC, resolved={"k": "v"}, parent_release_id="r1", steps_total=9)


async def _started(table: JobTable, job_id: str = "j") -> Job:
    job = await table.start(await _created(table, job_id))
    assert job is not None
    return job


def _step(number: int) -> pb.TrainingEvent:
    return pb.TrainingEvent(step_done=pb.StepDone(phase="cl", step=number, steps_total=9, metrics={"loss": 0.5}))


async def test_a_job_is_created_once(table: JobTable) -> None:
    jobs = await asyncio.gather(*(_created(table) for _ in range(5)))
    assert len({job.create_time_ms for job in jobs}) == 1
    assert len(await table.events("j", 0)) == 1
    assert (jobs[0].state, jobs[0].spec, jobs[0].resolved) == (QUEUED, SPEC, {"k": "v"})
    with pytest.raises(AlreadyExists):
        await table.create("j", pb.TrainingSpec(dataset_uri="other"), resolved={}, parent_release_id="r1", steps_total=9)
    with pytest.raises(NotFound):
        await table.get("nobody")


async def test_only_one_of_many_starts_a_job(table: JobTable) -> None:
    job = await _created(table)
    started = [found for found in await asyncio.gather(*(table.start(job) for _ in range(5))) if found]
    assert [(found.state, found.attempt) for found in started] == [(RUNNING, 1)]


async def test_events_of_many_writers_have_no_gaps(table: JobTable) -> None:
    await _started(table)
    await asyncio.gather(*(table.append("j", 1, _step(number)) for number in range(1, 41)))
    events = await table.events("j", 0)
    assert [event.sequence for event in events] == list(range(1, 43))
    assert (await table.events("j", 40))[0].sequence == 41
    assert sorted(event.step_done.step for event in events[2:]) == list(range(1, 41))
    assert events[2].step_done.metrics == {"loss": 0.5}


async def test_a_reader_waits_for_the_next_event(table: JobTable) -> None:
    await _started(table)
    assert await table.events("j", 2, wait_ms=50) == []
    waiting = asyncio.create_task(table.events("j", 2, wait_ms=4_000))
    await asyncio.sleep(0.05)
    await table.append("j", 1, _step(1))
    assert [event.sequence for event in await asyncio.wait_for(waiting, 2.0)] == [3]
    assert (await table.get("j")).steps_done == 1


async def test_an_old_attempt_has_nothing_more_to_say(table: JobTable) -> None:
    await _started(table)
    await table.requeue("j", 1, "the worker died", restarts=1)
    with pytest.raises(Superseded):
        await table.append("j", 1, _step(1))
    again = await table.start(await table.get("j"))
    assert again is not None
    assert (again.attempt, again.restarts) == (2, 1)
    for late in (table.append("j", 1, _step(1)), table.beat("j", 1), table.end("j", 1, SUCCEEDED), table.requeue("j", 1, "", 2)):
        with pytest.raises(Superseded):
            await late
    assert [event.state_changed.state for event in await table.events("j", 0)] == [QUEUED, RUNNING, QUEUED, RUNNING]


@pytest.mark.parametrize("state", [SUCCEEDED, FAILED, CANCELLED])
async def test_an_end_is_an_end(table: JobTable, state: pb.JobState.ValueType) -> None:
    await _started(table)
    await table.end("j", 1, state, "why", release_id="r2")
    job = await table.get("j")
    assert (job.state, job.ended, job.error, job.release_id) == (state, True, "why" if state == FAILED else "", "r2")
    assert job.end_time_ms >= job.start_time_ms > 0
    assert await table.open_jobs() == []
    with pytest.raises(Superseded):
        await table.append("j", 1, _step(1))
    if state != SUCCEEDED:  # a failed job is given up
        assert (await table.request_cancel("j")).state == CANCELLED
    else:
        with pytest.raises(FailedPrecondition):
            await table.request_cancel("j")


async def test_a_failed_job_can_be_resumed(table: JobTable) -> None:
    await _started(table)
    await table.append("j", 1, _step(4))
    await table.requeue("j", 1, "the worker died", restarts=1)
    assert await table.start(await table.get("j"))
    with pytest.raises(FailedPrecondition, match="only a FAILED job"):
        await table.resume("j", {}, {})
    await table.end("j", 2, FAILED, "the disk is full")
    await _created(table, "later")

    job = await table.resume("j", {"guards.kl.action": "warn"}, {"k": "w"})

    assert (job.state, job.error, job.end_time_ms, job.restarts, job.steps_done, job.attempt) == (QUEUED, "", 0, 0, 4, 2)
    assert job.last_interruption == "the worker died"
    assert job.spec == SPEC  # creating it again is still the same
    assert job.resolved == {"k": "w"}
    assert dict(job.effective_spec().overrides) == {"a": "1", "b": "2", "guards.kl.action": "warn"}
    assert [waiting.job_id for waiting in await table.open_jobs()] == ["j", "later"]  # in its old place
    assert (await table.events("j", 0))[-1].state_changed == pb.StateChanged(state=QUEUED, message="resumed")
    again = await table.start(job)
    assert again is not None
    assert again.attempt == 3


async def test_cancelling_ends_a_waiting_job_and_flags_a_running_one(table: JobTable) -> None:
    await _created(table, "waiting")
    assert (await table.request_cancel("waiting")).state == CANCELLED
    await _started(table, "running")
    job = await table.request_cancel("running")
    assert (job.state, job.cancel_requested) == (RUNNING, True)
    with pytest.raises(NotFound):
        await table.request_cancel("nobody")


async def test_pages_go_from_new_to_old(table: JobTable) -> None:
    for number in range(5):
        await _created(table, f"j{number}")
    found, token = [], ""
    while True:
        jobs, token = await table.page(2, token)
        found += [job.job_id for job in jobs]
        if not token:
            break
    assert found == ["j4", "j3", "j2", "j1", "j0"]
    with pytest.raises(InvalidArgument):
        await table.page(2, "²")
