"""A training job through the trainer's RPC, with real processes: it runs, is watched, and makes a release."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from langptune.errors import Aborted, AlreadyExists, Cancelled, FailedPrecondition, NotFound
from langptune.v1 import trainer_pb2 as pb
from services.trainer.learning.checkpoint import Checkpoints
from tests.integration.trainer.world import Client, World, is_step


async def test_a_job_trains_both_models_and_its_release_is_published_and_rolled_back(world: World, client: Client) -> None:
    before = await client.live()
    spec = world.spec()
    folder = world.folder / "jobs" / "whole"
    forgotten = {"job": {"created_ms": 1}, "done": 3}  # of a job of this name that the table knows no more
    Checkpoints(folder / "checkpoints").save(3, {"run": forgotten})
    job = await client.create(spec, "whole")
    assert job.state == pb.JOB_STATE_QUEUED
    assert job.steps_total == 5
    assert job.resolved["rlso.samples"] == "2"

    live, again = await asyncio.gather(client.watch("whole"), client.watch("whole", after=2))

    assert [event.sequence for event in live] == list(range(1, len(live) + 1))
    assert live[2:] == again
    assert [event.WhichOneof("event") for event in live] == [
        *("state_changed", "state_changed", "validation_done"),
        *["step_done"] * 5,
        *("validation_done", "candidate_made", "state_changed"),
    ]
    steps = [event.step_done for event in live if event.HasField("step_done")]
    assert [(step.step, step.phase) for step in steps] == [(1, "cl"), (2, "cl"), (3, "rlso"), (4, "rlso"), (5, "cl")]
    assert all(math.isfinite(value) for step in steps for value in step.metrics.values())
    assert steps[2].metrics["logprob_gap"] < 1e-3  # the encoder's log-probs are the trainer's

    job = await client.create(spec, "whole")  # the same again: nothing happens
    assert (job.state, job.error, job.steps_done) == (pb.JOB_STATE_SUCCEEDED, "", 5)
    with pytest.raises(AlreadyExists):
        await client.create(world.spec(seed=8), "whole")
    with pytest.raises(FailedPrecondition):
        await client.cancel("whole")

    release = (await client.releases.GetRelease(pb.GetReleaseRequest(release_id=job.release_id))).release
    assert (release.parent_release_id, release.job_id, release.live) == (before.release_id, "whole", False)
    assert (release.validation.users, release.validation.cutoff) == (4, 20)
    assert release.validation == next(event for event in live if event.validation_done.label == "after").validation_done.metrics

    # nothing is left of the job but its release's versions and its log
    assert world.stored("encoder", "whole") == {release.encoder_version}
    assert world.stored("decoder", "whole") == {release.decoder_version}
    assert "checkpoints of another job removed" in world.worker_log("whole")
    assert sorted(path.name for path in folder.iterdir()) == ["tensorboard", "worker.lock", "worker.log"]
    assert _told(live) == _on_the_board(folder / "tensorboard")

    await _publish_and_roll_back(client, before.release_id, release.release_id)


def _told(events: list[pb.TrainingEvent]) -> dict[tuple[str, int], float]:
    """Every number of the job's steps and validations by tag and step, rounded to 32 bits as event files do."""
    numbers: dict[tuple[str, int], float] = {}
    at = 0
    for event in events:
        if event.HasField("step_done"):
            at = event.step_done.step
            numbers |= {(f"{event.step_done.phase}/{name}", at): value for name, value in event.step_done.metrics.items()}
        if event.HasField("validation_done"):
            found = event.validation_done.metrics
            numbers |= {
                ("validation/ndcg", at): found.ndcg,
                ("validation/recall", at): found.recall,
                ("validation/mrr", at): found.mrr,
            }
    return {place: float(np.float32(value)) for place, value in numbers.items()}


def _on_the_board(folder: Path) -> dict[tuple[str, int], float]:
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    board.Reload()
    return {(tag, event.step): event.value for tag in board.Tags()["scalars"] for event in board.Scalars(tag)}


async def _publish_and_roll_back(client: Client, first: str, second: str) -> None:
    with pytest.raises(Aborted) as aborted:
        await client.publish(second, expected="r999")
    assert aborted.value.etag == first
    with pytest.raises(NotFound):
        await client.publish("r999")
    published = await client.publish(second, expected=first)
    assert (published.release.live, published.previous_release_id) == (True, first)
    assert (await client.live()).release_id == second
    assert (await client.publish(second)).previous_release_id == second  # nothing changes
    listed = await client.releases.ListReleases(pb.ListReleasesRequest(page_size=1))
    assert [(release.release_id, release.live) for release in listed.releases] == [(second, True)]
    rest = await client.releases.ListReleases(pb.ListReleasesRequest(page_token=listed.next_page_token))
    assert first in [release.release_id for release in rest.releases]
    for expected in (first, second, first):  # back, forward again, back
        await client.releases.RollbackRelease(pb.RollbackReleaseRequest(reason="test"))
        assert (await client.live()).release_id == expected


async def test_the_history_itself_can_stand_for_the_user(world: World, client: Client) -> None:
    live = await client.live()
    sizes = {"cl_batches": 1, "rlso_batches": 0, "final_cl_batches": 0}
    await client.create(world.spec(profile_source=pb.PROFILE_SOURCE_HISTORY, **sizes), "no-profile")
    events = await client.watch("no-profile")
    assert events[-1].state_changed.state == pb.JOB_STATE_SUCCEEDED
    release = (
        await client.releases.GetRelease(pb.GetReleaseRequest(release_id=(await client.get("no-profile")).release_id))
    ).release
    assert release.encoder_version == live.encoder_version
    assert release.decoder_version != live.decoder_version


async def test_jobs_wait_for_their_turn_and_are_cancelled_leaving_nothing(world: World, client: Client) -> None:
    await client.create(world.spec(cl_batches=1, rlso_batches=500, validation_users=0), "long")
    await client.create(world.spec(), "waiting")
    leaving = asyncio.create_task(client.watch("long"))
    await client.watch("long", until=is_step(3))
    leaving.cancel()  # a watcher that leaves disturbs no one
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await leaving

    assert (await client.get("waiting")).state == pb.JOB_STATE_QUEUED
    assert (await client.cancel("waiting")).state == pb.JOB_STATE_CANCELLED
    states = [event.state_changed.state for event in await client.watch("waiting")]
    assert states == [pb.JOB_STATE_QUEUED, pb.JOB_STATE_CANCELLED]
    page = await client.jobs.ListTrainingJobs(pb.ListTrainingJobsRequest(page_size=1))
    assert [job.job_id for job in page.jobs] == ["waiting"]
    page = await client.jobs.ListTrainingJobs(pb.ListTrainingJobsRequest(page_size=1, page_token=page.next_page_token))
    assert [job.job_id for job in page.jobs] == ["long"]

    await client.cancel("long")
    events = await client.watch("long", after=4)
    assert events[-1].state_changed.state == pb.JOB_STATE_CANCELLED
    job = await client.cancel("long")
    assert (job.state, job.release_id) == (pb.JOB_STATE_CANCELLED, "")
    assert 3 <= job.steps_done < 100
    assert not world.stored("encoder", "long") | world.stored("decoder", "long")
