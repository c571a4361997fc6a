"""What the gateway tells of its refresh queue, over a real Redis, and of calls that were over their rate."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from langptune.errors import ResourceExhausted, Unavailable
from langptune.rpc.looking import Looking
from services.gateway import metrics
from services.gateway.identity.limits import Limiter
from services.gateway.interactions.store import Entry, Interactions
from services.gateway.refresh.queue import Depth, RefreshQueue


def _told(depth: Depth | None, age: float) -> dict[str, float]:
    """Sample name, and state where it has one, to value."""
    samples = [sample for family in metrics.state(depth, age) for sample in family.samples]
    return {sample.name.removeprefix("langptune_gateway_") + "".join(sample.labels.values()): sample.value for sample in samples}


async def test_the_queue_is_told_as_the_last_look_found_it(redis_url: str) -> None:
    """Of three users with two new interactions each, one is being written, and one was given up."""
    async with Redis.from_url(redis_url) as client:
        queue = RefreshQueue(client, 2)
        entries = [Entry("i1", 4.0, "", 1), Entry("i2", 4.0, "", 2)]
        await Interactions(client, 10).record({f"u{number}": entries for number in range(3)}, refresh_after=2)
        first = await queue.take("worker", 30.0, 0.1)
        assert first is not None
        await queue.bury(first, Unavailable("no encoder"))
        assert await queue.take("worker", 30.0, 0.1) is not None
        looking: Looking[Depth | None] = Looking(queue.depth, None, 1.0)
        assert set(_told(*looking.seen())) == {"look_age_seconds"}
        await looking.look()
        told = _told(*looking.seen())
    assert told["refresh_lag_seconds"] >= 0.0
    states = {name: value for name, value in told.items() if name.startswith("refresh_queue")}
    assert states == {
        "refresh_queuequeued": 1.0,
        "refresh_queuerunning": 1.0,
        "refresh_queuedelayed": 0.0,
        "refresh_queuedead": 1.0,
    }


async def test_a_call_over_its_rate_is_counted(redis_url: str) -> None:
    limiter = Limiter(redis_url, per_user=1, per_key=0)
    before = REGISTRY.get_sample_value("langptune_gateway_rate_limited_total") or 0.0
    await limiter.admit(1, user="u1", key="")
    with pytest.raises(ResourceExhausted):
        await limiter.admit(1, user="u1", key="")
    await limiter.close()
    assert REGISTRY.get_sample_value("langptune_gateway_rate_limited_total") == before + 1.0
