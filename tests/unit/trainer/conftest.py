"""Redis clients for the trainer's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis

from services.trainer.jobs.table import JobTable


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[redis.Redis]:
    async with redis.Redis.from_url(redis_url, socket_timeout=5.0) as client:
        yield client


@pytest.fixture
def table(store: redis.Redis) -> JobTable:
    return JobTable(store)
