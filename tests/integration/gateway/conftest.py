"""One world for all of these tests (a start takes 10 seconds and more), a client of its gateway, and one that asks for tokens."""

from collections.abc import AsyncIterator, Iterator

import pytest

from langptune.client import LangPTune
from samples.dataset import make_dataset
from tests.integration.gateway.doors import Doors, open_doors
from tests.integration.gateway.world import World, running_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("gateway")
    with running_world(folder, make_dataset(folder / "data", items=120, users=40)) as world:
        yield world


@pytest.fixture
async def lp(world: World) -> AsyncIterator[LangPTune]:
    async with LangPTune(world.gateway.address, timeout=20.0) as client:
        yield client


@pytest.fixture(scope="session")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with open_doors(tmp_path_factory.mktemp("doors")) as doors:
        yield doors
