"""One small system for all tests of this folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from samples.dataset import make_dataset
from tests.integration.trainer.world import Client, World
from tests.support.otlp import running_collector
from tests.support.redis import running_redis


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("trainer")
    with running_redis(folder / "redis") as redis_url, running_collector() as collector:
        world = World(folder, redis_url, make_dataset(folder / "data", items=60, users=40), collector)
        try:
            asyncio.run(world.import_catalogue())
            yield world
        finally:
            world.stop()


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    async with world.client() as client:
        yield client
