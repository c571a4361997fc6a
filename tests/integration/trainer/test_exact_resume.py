"""A worker killed at random moments (SIGKILL), and started again, ends in the weights of an undisturbed run: bit for bit.

Real services and real worker processes, nobody else asking. A few moments here; `make resume-check` (LANGPTUNE_RESUME_MOMENTS=20)
does twenty. A moment is a random step, and then a random time within it: in sampling, ranking, learning, publishing, or in the
middle of a checkpoint.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Callable

import pytest

from langptune.v1 import trainer_pb2 as pb
from tests.integration.trainer.world import MAX_RESTARTS, Client, World

MOMENTS = int(os.environ.get("LANGPTUNE_RESUME_MOMENTS", "3"))
SEED = int(os.environ.get("LANGPTUNE_RESUME_SEED", "0"))
STEPS = 9


def _spec(world: World) -> pb.TrainingSpec:
    """Two outer iterations, a KL penalty, a few epochs: everything that a checkpoint has to hold."""
    sizes = {"outer_iterations": 2, "cl_batches": 2, "rlso_batches": 2, "final_cl_batches": 1, "validation_users": 4}
    return world.spec(**sizes, overrides={"rlso.epochs": "2", "rlso.gamma": "0.05"})


def _weights(world: World, job_id: str) -> dict[str, dict[str, str]]:
    """SHA-256 of every file of the job's two weights versions."""
    found = {}
    for kind in ("encoder", "decoder"):
        (version,) = world.stored(kind, job_id)
        found[kind] = json.loads((world.folder / "weights" / kind / version / "manifest.json").read_text())["files"]
    return found


def _told(events: list[pb.TrainingEvent]) -> dict[int, dict[str, float]]:
    """The figures of each step, as last told, but for times and for the engine's own log-probs, from which nothing is learnt."""
    steps = [event.step_done for event in events if event.HasField("step_done")]
    return {
        step.step: {name: value for name, value in step.metrics.items() if "seconds" not in name and name != "logprob_gap"}
        for step in steps
    }


def _step_seconds(events: list[pb.TrainingEvent]) -> float:
    times = [event.time.ToMilliseconds() for event in events if event.HasField("step_done")]
    return (times[-1] - times[0]) / 1000 / (len(times) - 1)


def _reached(attempts: int, step: int) -> Callable[[pb.TrainingEvent], bool]:
    """Whether attempt number `attempts` has told of `step` or of one after it (0: of its first validation)."""
    queued = 0

    def reached(event: pb.TrainingEvent) -> bool:
        nonlocal queued
        queued += event.state_changed.state == pb.JOB_STATE_QUEUED
        told = event.step_done.step >= step if step else event.HasField("validation_done")
        return queued == attempts and told and not event.HasField("state_changed")

    return reached


async def _kill(world: World, client: Client, job_id: str, attempts: int, step: int, seconds: float) -> bool:
    """SIGKILL `seconds` after the attempt has told of the step; returns whether there was still somebody to kill."""
    await client.watch(job_id, until=_reached(attempts, step))
    await asyncio.sleep(seconds)
    running = (await client.get(job_id)).state == pb.JOB_STATE_RUNNING
    if running:
        os.kill(world.worker_pid(job_id), signal.SIGKILL)
    return running


@pytest.mark.timeout(120 * (2 + MOMENTS))
async def test_a_killed_worker_changes_nothing(world: World, client: Client) -> None:
    await client.create(_spec(world), "undisturbed")
    straight = await client.watch("undisturbed")
    assert straight[-1].state_changed.state == pb.JOB_STATE_SUCCEEDED
    step_seconds = _step_seconds(straight)
    draw = random.Random(SEED)
    killed = 0
    for number, first in enumerate(range(0, MOMENTS, MAX_RESTARTS)):
        job_id = f"killed-{number}"
        count = min(MAX_RESTARTS, MOMENTS - first)
        await client.create(_spec(world), job_id)
        kills = 0
        for step in sorted(draw.sample(range(STEPS), count)):
            kills += await _kill(world, client, job_id, kills + 1, step, draw.uniform(0.0, 1.5 * step_seconds))
        events = await client.watch(job_id)
        job = await client.get(job_id)
        assert (job.state, job.restarts) == (pb.JOB_STATE_SUCCEEDED, kills), job.error
        assert _weights(world, job_id) == _weights(world, "undisturbed")
        assert _told(events) == _told(straight)
        sys.stderr.write(f"{job_id}: {kills} of {count} kills met a running worker; the weights are the same\n")
        killed += kills
    assert killed >= MOMENTS / 2  # a moment may fall behind the end of a job
