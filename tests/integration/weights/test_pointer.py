"""The release pointer outlives a Redis that is killed: whatever was acknowledged is there again, and so is the record."""

from __future__ import annotations

from pathlib import Path

import redis.asyncio as redis

from langptune.local.process import free_port
from langptune.weights import ReleaseRegistry, Why
from services.trainer.publishing.gate import Verdict
from services.trainer.publishing.publication import Publication, PublicationRecord, Step
from tests.support.redis import start_redis


async def test_what_was_acknowledged_survives_a_killed_redis(tmp_path: Path) -> None:
    port = free_port()
    process, url = start_redis(tmp_path, port)
    try:
        async with redis.Redis.from_url(url) as client:
            registry, record = ReleaseRegistry(client), PublicationRecord(client, 10.0)
            first = await registry.ensure_first("e1", "d1", reason="first")
            second = await registry.create("e2", "d2", validation={"ndcg": 0.25})
            drains = Publication.begin(
                second.release_id, "r1", actor="ann", reason="better", override_reason="", verdict=Verdict.OPEN
            ).at(Step.DRAIN)
            async with record.lease() as lease:
                assert lease is not None
                why = Why("ann", "better", "", drains.publish_id)
                await registry.set_live(second.release_id, expected="r1", why=why, fence=lease.fence(drains))
        process.kill()
        process.wait(10)
        process, url = start_redis(tmp_path, port)
        async with redis.Redis.from_url(url) as client:
            registry = ReleaseRegistry(client)
            assert await registry.live() == second
            assert await registry.get("r1") == first
            assert [(move.release_id, move.previous) for move in await registry.history(10)] == [("r2", "r1"), ("r1", "")]
            newest = (await registry.history(1))[0]
            assert (newest.why.actor, newest.why.reason, newest.validation) == ("ann", "better", {"ndcg": 0.25})
            assert await PublicationRecord(client, 10.0).read() == drains
    finally:
        process.kill()
        process.wait(10)
