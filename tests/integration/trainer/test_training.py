"""A training job through the trainer's RPC, with real processes on all sides: it runs, it is watched, it makes a release."""

from __future__ import annotations

import asyncio
import math

import pytest

from langptune.errors import AlreadyExists, Cancelled
from langptune.v1 import trainer_pb2
from tests.integration.trainer.world import Client, World, is_step


async def test_a_job_trains_both_models_and_ends_in_a_release_that_can_be_published(world: World, client: Client) -> None:
    before = await client.live()
    job = await client.create(world.spec(), "whole")
    assert job.state == trainer_pb2.JOB_STATE_QUEUED
    assert job.steps_total == 5
    assert job.resolved["rlso.samples"] == "2"

    live, again = await asyncio.gather(client.watch("whole"), client.watch("whole", after=2))

    assert [event.sequence for event in live] == list(range(1, len(live) + 1))
    assert live[2:] == again
    kinds = [event.WhichOneof("event") for event in live]
    assert kinds == [
        *("state_changed", "state_changed", "validation_done"),
        *["step_done"] * 5,
        *("validation_done", "candidate_made", "state_changed"),
    ]
    steps = [event.step_done for event in live if event.HasField("step_done")]
    assert [(step.step, step.phase) for step in steps] == [(1, "cl"), (2, "cl"), (3, "rlso"), (4, "rlso"), (5, "cl")]
    assert all(math.isfinite(value) for step in steps for value in step.metrics.values())
    assert steps[2].metrics["logprob_gap"] < 1e-3  # the encoder's log-probs are the trainer's

    job = await client.get("whole")
    assert (job.state, job.error, job.steps_done) == (trainer_pb2.JOB_STATE_SUCCEEDED, "", 5)
    release = (await client.releases.GetRelease(trainer_pb2.GetReleaseRequest(release_id=job.release_id))).release
    assert (release.parent_release_id, release.job_id, release.live) == (before.release_id, "whole", False)
    assert release.encoder_version != before.encoder_version
    assert release.decoder_version != before.decoder_version
    assert release.validation.users == 4
    assert release.validation.cutoff == 20
    assert release.validation == [event for event in live if event.validation_done.label == "after"][0].validation_done.metrics

    # nothing is left of the job but its release's versions and its log
    assert {version for version in world.stored("encoder") if "whole" in version} == {release.encoder_version}
    assert {version for version in world.stored("decoder") if "whole" in version} == {release.decoder_version}
    assert sorted(path.name for path in (world.folder / "jobs" / "whole").iterdir()) == ["worker.lock", "worker.log"]


async def test_a_job_can_be_created_twice_but_not_with_another_spec(world: World, client: Client) -> None:
    spec = world.spec(outer_iterations=0, validation_users=2)
    first = await client.create(spec, "twice")
    await client.watch("twice")
    again = await client.create(spec, "twice")
    assert again.create_time == first.create_time
    assert again.state == trainer_pb2.JOB_STATE_SUCCEEDED
    with pytest.raises(AlreadyExists):
        await client.create(world.spec(seed=8), "twice")


async def test_zero_shot_makes_a_release_of_the_parents_versions(world: World, client: Client) -> None:
    live = await client.live()
    await client.create(world.spec(outer_iterations=0, profile_source=trainer_pb2.PROFILE_SOURCE_HISTORY), "zero")
    events = await client.watch("zero")
    before, after = (event.validation_done.metrics for event in events if event.HasField("validation_done"))
    assert before == after
    release_id = (await client.get("zero")).release_id
    release = (await client.releases.GetRelease(trainer_pb2.GetReleaseRequest(release_id=release_id))).release
    assert (release.encoder_version, release.decoder_version) == (live.encoder_version, live.decoder_version)


async def test_a_running_job_is_cancelled_after_its_step_and_leaves_nothing(world: World, client: Client) -> None:
    await client.create(world.spec(cl_batches=1, rlso_batches=200), "called-off")
    await client.watch("called-off", until=is_step(3))
    await client.cancel("called-off")
    events = await client.watch("called-off", after=4)
    assert events[-1].state_changed.state == trainer_pb2.JOB_STATE_CANCELLED
    job = await client.cancel("called-off")
    assert (job.state, job.release_id) == (trainer_pb2.JOB_STATE_CANCELLED, "")
    assert 3 <= job.steps_done < 50
    assert not any("called-off" in version for kind in ("encoder", "decoder") for version in world.stored(kind))


async def test_jobs_wait_for_their_turn_and_a_waiting_one_can_be_cancelled(world: World, client: Client) -> None:
    await client.create(world.spec(cl_batches=0, rlso_batches=200), "first")
    await client.create(world.spec(), "second")
    await client.watch("first", until=is_step(1))
    assert (await client.get("second")).state == trainer_pb2.JOB_STATE_QUEUED
    assert (await client.cancel("second")).state == trainer_pb2.JOB_STATE_CANCELLED
    await client.cancel("first")
    await client.watch("first")
    states = [event.state_changed.state for event in await client.watch("second")]
    assert states == [trainer_pb2.JOB_STATE_QUEUED, trainer_pb2.JOB_STATE_CANCELLED]


async def test_jobs_are_listed_newest_first_by_pages(world: World, client: Client) -> None:
    for name in ("page-1", "page-2", "page-3"):
        await client.create(world.spec(outer_iterations=0, validation_users=0), name)
        await client.watch(name)
    page = await client.jobs.ListTrainingJobs(trainer_pb2.ListTrainingJobsRequest(page_size=2))
    assert [job.job_id for job in page.jobs] == ["page-3", "page-2"]
    rest = await client.jobs.ListTrainingJobs(
        trainer_pb2.ListTrainingJobsRequest(page_size=1, page_token=page.next_page_token)
    )
    assert [job.job_id for job in rest.jobs] == ["page-1"]


async def test_a_watcher_that_leaves_is_let_go(world: World, client: Client) -> None:
    await client.create(world.spec(cl_batches=0, rlso_batches=200), "left")
    watching = asyncio.create_task(client.watch("left"))
    await client.watch("left", until=is_step(1))
    watching.cancel()
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await watching
    assert (await client.get("left")).state == trainer_pb2.JOB_STATE_RUNNING
    await client.cancel("left")
    await client.watch("left")
