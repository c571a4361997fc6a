"""Cores on a real Redis."""

from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis

from services.gateway.interactions.store import Interactions
from services.gateway.profiles.store import Profiles


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.Redis]:
    async with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def profiles(client: redis.Redis) -> Profiles:
    return Profiles(client, revisions_kept=5)


@pytest.fixture
def interactions(client: redis.Redis) -> Interactions:
    return Interactions(client, history_kept=4)
