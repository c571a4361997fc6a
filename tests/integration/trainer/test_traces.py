"""A job's rollouts and rewards in traces: the worker's calls are the parents of what encoder and decoder did for them."""

from __future__ import annotations

import asyncio

from langptune.v1 import trainer_pb2 as pb
from tests.integration.trainer.world import Client, World
from tests.support.otlp import Span

PAIRS = {"SampleRollouts": "langptune-encoder", "RankTargets": "langptune-decoder", "LoadDecoderVersion": "langptune-decoder"}


def _pairs(spans: list[Span]) -> dict[str, set[str]]:
    """Method to the services that served it for a call of a worker, in the worker's trace."""
    asked = {span.span: span for span in spans if span.service == "langptune-trainer-worker" and not span.server}
    found: dict[str, set[str]] = {}
    for span in spans:
        parent = asked.get(span.parent)
        if parent and span.server and (parent.trace, parent.method) == (span.trace, span.method):
            found.setdefault(span.method, set()).add(span.service)
    return found


async def test_rollouts_and_rewards_are_children_of_the_workers_calls(world: World, client: Client) -> None:
    job = await client.create(world.spec(cl_batches=1, rlso_batches=1, final_cl_batches=0), "traced")
    await client.watch("traced")
    assert (await client.get("traced")).state == pb.JOB_STATE_SUCCEEDED, job
    spans = await asyncio.to_thread(world.collector.wait_for, lambda spans: PAIRS.keys() <= _pairs(spans).keys())
    assert {method: service for method, service in PAIRS.items() if _pairs(spans)[method] == {service}} == PAIRS
