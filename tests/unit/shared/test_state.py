"""How Redis is opened."""

import asyncio

from langptune.settings import RedisSettings
from langptune.state import open_redis


async def test_more_commands_at_once_than_connections_wait_for_one(redis_url: str) -> None:
    """The client's own default refuses a command beyond 100 connections: 400 of these would fail."""
    client = open_redis(RedisSettings.model_validate({"redis_url": redis_url}))
    counted = await asyncio.gather(*(client.incr("x") for _ in range(500)))
    assert sorted(counted) == list(range(1, 501))
    await client.aclose()
