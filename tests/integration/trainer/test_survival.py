"""What a job lives through: the trainer killed, the trainer stopped, the worker killed, the encoder gone."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from langptune.errors import FailedPrecondition, InvalidArgument, Unavailable
from langptune.v1 import trainer_pb2 as pb
from tests.integration.trainer.world import MAX_RESTARTS, Client, World, await_gone, is_step
from tests.support.processes import start_service

pytestmark = pytest.mark.timeout(600)  # each of these starts a worker several times


async def test_a_job_outlives_a_killed_trainer_a_stopped_trainer_and_a_killed_worker(world: World) -> None:
    async with world.client() as client:
        await client.create(world.spec(rlso_batches=30, final_cl_batches=0, validation_users=2), "tough")
        first = await client.watch("tough", until=is_step(1))
        pid = world.worker_pid("tough")

    world.trainer.kill()  # the worker goes on, and the next trainer follows it
    world.start_trainer()
    async with world.client() as client:
        events = await client.watch("tough", until=is_step(4))
        assert events[: len(first)] == first
        assert world.worker_pid("tough") == pid

        connected = asyncio.Event()
        watching = asyncio.create_task(client.watch("tough", until=lambda _: bool(connected.set())))
        await connected.wait()
        assert await asyncio.to_thread(world.trainer.terminate) == 0  # the worker finishes its step and hands the job back
        with pytest.raises(Unavailable, match="shutting down; watch again after sequence"):
            await watching
    await_gone(pid)
    assert not world.stored("encoder", "tough") | world.stored("decoder", "tough")
    world.start_trainer()
    async with world.client() as client:
        handed_back = max(event.step_done.step for event in await client.watch("tough", until=_queued_again))
        events = await client.watch("tough", until=is_step(handed_back + 2))
        steps = [event.step_done.step for event in events if event.HasField("step_done")]
        assert steps == list(range(1, handed_back + 3))  # no step was done twice
        assert world.worker_pid("tough") != pid

        os.kill(world.worker_pid("tough"), signal.SIGKILL)
        events = await client.watch("tough")
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        messages = [event.state_changed.message for event in events if event.HasField("state_changed")]
        assert any(
            f"was ended by signal 9; restart 1 of {MAX_RESTARTS} goes on from the checkpoint" in message for message in messages
        )
        job = await client.get("tough")
        assert (job.state, job.steps_done) == (pb.JOB_STATE_SUCCEEDED, 32)
        labels = [event.validation_done.label for event in events if event.HasField("validation_done")]
        assert labels == ["before", "after"]
        assert len(world.stored("encoder", "tough")) == len(world.stored("decoder", "tough")) == 1


def _queued_again(event: pb.TrainingEvent) -> bool:
    return event.state_changed.state == pb.JOB_STATE_QUEUED and event.sequence > 1


async def test_a_job_without_an_encoder_fails_with_a_sentence_and_can_be_resumed(world: World, client: Client) -> None:
    await client.create(world.spec(rlso_batches=500, validation_users=0), "alone")
    await client.watch("alone", until=is_step(3))
    world.encoder.kill()
    try:
        with pytest.raises(Unavailable):
            await client.releases.VerifyRelease(pb.VerifyReleaseRequest())
        await client.watch("alone")
        job = await client.get("alone")
        assert job.state == pb.JOB_STATE_FAILED
        assert job.error.startswith("the encoder did not answer for 3 s: ")
        assert not world.stored("encoder", "alone") | world.stored("decoder", "alone")
    finally:
        world.encoder = start_service("encoder", world.folder, world.env, port=world.encoder.port)
    newest = world.folder / "jobs" / "alone" / "checkpoints" / world.checkpoints("alone")[-1]
    assert newest.name == f"batch-{job.steps_done:06d}"
    (newest / "policy.pt").write_bytes(b"damaged")  # then it goes on from the one before
    resumed = await client.resume("alone")
    assert (resumed.state, resumed.error, resumed.attempts) == (pb.JOB_STATE_QUEUED, "", 1)
    events = await client.watch("alone", until=is_step(job.steps_done + 2))
    steps = [event.step_done.step for event in events if event.HasField("step_done")]
    assert steps == [*range(1, job.steps_done + 1), *range(job.steps_done, job.steps_done + 3)]
    assert "checkpoint is damaged" in world.worker_log("alone")
    with pytest.raises(FailedPrecondition, match="only a FAILED job"):
        await client.resume("alone")
    await client.cancel("alone")
    assert (await client.watch("alone"))[-1].state_changed.state == pb.JOB_STATE_CANCELLED
    assert not world.checkpoints("alone")


async def test_a_guard_stops_a_job_which_goes_on_from_its_best_checkpoint_with_other_guards(world: World, client: Client) -> None:
    """Every gradient is longer than 0: the guard fires in the second RLSO update, and no update was within its limits."""
    guards = {"guards.patience": "2", "guards.gradient_norm.above": "0", "guards.gradient_norm.action": "stop"}
    await client.create(world.spec(rlso_batches=3, validation_users=0, overrides=guards), "guarded")
    events = await client.watch("guarded")
    fired = next(event.guard_fired for event in events if event.HasField("guard_fired"))
    assert (fired.guard, fired.limit, fired.stops) == ("gradient_norm", 0.0, True)
    job = await client.get("guarded")
    assert (job.state, job.steps_done) == (pb.JOB_STATE_FAILED, 4)
    assert job.error.startswith("stopped by a guard after step 4 of 6: gradient_norm was ")
    assert job.error.endswith("the best checkpoint, of step 3, is kept")
    assert world.checkpoints("guarded") == ["batch-000002", "batch-000003"]
    assert not world.stored("encoder", "guarded") | world.stored("decoder", "guarded")

    with pytest.raises(InvalidArgument) as refused:
        await client.jobs.ResumeTrainingJob(pb.ResumeTrainingJobRequest(job_id="guarded", overrides={"rlso.eta": "2"}))
    assert refused.value.field == "overrides[rlso.eta]"
    with pytest.raises(InvalidArgument) as refused:
        await client.resume("guarded", gradient_norm__action="panic")
    assert refused.value.field == "overrides[guards.gradient_norm.action]"
    told = len(events) + await _resumed_with_other_data(world, client)
    resumed = await client.resume("guarded", gradient_norm__action="warn")
    assert resumed.resolved["guards.gradient_norm.action"] == "warn"
    events = await client.watch("guarded", after=told)
    assert [event.step_done.step for event in events if event.HasField("step_done")] == [4, 5, 6]
    assert [event.guard_fired.stops for event in events if event.HasField("guard_fired")] == [False]
    assert events[-1].state_changed.state == pb.JOB_STATE_SUCCEEDED


async def _resumed_with_other_data(world: World, client: Client) -> int:
    """The job refuses to go on with a data set that is not its own, and can go on once that is back."""
    description = world.dataset.folder / "dataset.json"
    own = description.read_text()
    before = len(await client.watch("guarded"))
    description.write_text(own.replace(world.dataset.content_hash, "0" * 64))
    try:
        await client.resume("guarded", gradient_norm__action="warn")
        events = await client.watch("guarded", after=before)
    finally:
        description.write_text(own)
    job = await client.get("guarded")
    assert job.state == pb.JOB_STATE_FAILED
    assert job.error.endswith("has changed since the job began: it cannot go on with other data")
    assert not any(event.HasField("step_done") for event in events)
    return len(events)
