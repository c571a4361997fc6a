"""Jobs of two processes, and the trainable parts of the encoder, through the RPC: the same losses as one process's."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from langptune.v1 import trainer_pb2 as pb
from tests.integration.trainer.world import Client, World, is_step

pytestmark = pytest.mark.timeout(600)  # each job loads torch and DeepSpeed in two new processes

TRAINABLE = {
    "lora": {"rlso.trainable": "lora", "rlso.lora_rank": "4", "rlso.lora_alpha": "8"},
    "last_k": {"rlso.trainable": "last_k", "rlso.last_k": "1"},
}
SIZES: dict[str, Any] = {"cl_batches": 1, "rlso_batches": 1, "final_cl_batches": 0, "validation_users": 2}


async def _losses(client: Client, job_id: str) -> list[float]:
    events = await client.watch(job_id)
    job = await client.get(job_id)
    assert (job.state, job.error) == (pb.JOB_STATE_SUCCEEDED, "")
    return [event.step_done.metrics["loss"] for event in events if event.HasField("step_done")]


@pytest.mark.parametrize(("trainable", "zero_stage"), [("lora", "3"), ("last_k", "2")])
async def test_two_processes_train_as_one(world: World, client: Client, trainable: str, zero_stage: str) -> None:
    overrides = {**TRAINABLE[trainable], "rlso.epochs": "2", "rlso.gamma": "0.1"}
    await client.create(world.spec(overrides=overrides, **SIZES), f"one-{trainable}")
    alone = await _losses(client, f"one-{trainable}")
    sharded = {**overrides, "distributed.zero_stage": zero_stage}
    await client.create(world.spec(overrides=sharded, processes=2, **SIZES), f"two-{trainable}")
    together = await _losses(client, f"two-{trainable}")
    assert len(alone) == 2
    assert together == pytest.approx(alone, rel=1e-4)
    job = await client.get(f"two-{trainable}")
    release = (await client.releases.GetRelease(pb.GetReleaseRequest(release_id=job.release_id))).release
    assert world.stored("encoder", f"two-{trainable}") == {release.encoder_version}  # whole models, though they were shards
    assert world.stored("decoder", f"two-{trainable}") == {release.decoder_version}


async def test_a_killed_process_ends_all_and_the_job_goes_on(world: World, client: Client) -> None:
    sizes = {**SIZES, "rlso_batches": 4, "validation_users": 0}
    await client.create(world.spec(processes=2, overrides=TRAINABLE["lora"], **sizes), "pair")
    await client.watch("pair", until=is_step(2))
    os.kill(world.worker_pid("pair"), signal.SIGKILL)
    events = await client.watch("pair")
    messages = [event.state_changed.message for event in events if event.HasField("state_changed")]
    assert any("exit code 1; restart 1 of" in message for message in messages)
    job = await client.get("pair")
    assert (job.state, job.steps_done) == (pb.JOB_STATE_SUCCEEDED, 5)
    assert sum(event.HasField("step_done") and event.step_done.step == 1 for event in events) == 1  # not from the beginning
