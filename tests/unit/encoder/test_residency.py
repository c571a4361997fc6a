"""Which versions stay in memory."""

from __future__ import annotations

import asyncio
import threading

import pytest

from langptune.errors import FailedPrecondition, NotFound
from services.encoder.engines.residency import Residency


class Shelf:
    """Knows the versions a, b, c and "broken"; counts loads, and holds them back while `gate` is closed."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def locate(self, version: str) -> str:
        if version not in ("a", "b", "c", "broken"):
            raise NotFound("encoder version", version)
        return f"/{version}"

    def load(self, path: str) -> str:
        self.loads.append(path)
        assert self.gate.wait(5)
        if path == "/broken":
            raise FailedPrecondition("the model /broken cannot be loaded")
        return path.upper()

    def residency(self, limit: int = 2) -> Residency[str, str]:
        return Residency(self.locate, self.load, limit)


async def test_the_least_recently_used_version_leaves() -> None:
    residency = Shelf().residency()
    assert await residency.load("a") is False
    assert await residency.load("b") is False
    assert await residency.load("a") is True
    await residency.load("c")
    assert residency.versions() == ["a", "c"]


async def test_a_version_is_loaded_once_for_all_who_wait() -> None:
    shelf = Shelf()
    residency = shelf.residency()

    async def use() -> str:
        async with residency.use("a") as value:
            return value

    assert await asyncio.gather(*(use() for _ in range(5))) == ["/A"] * 5
    assert shelf.loads == ["/a"]


async def test_a_version_in_use_stays_and_a_load_waits_for_room() -> None:
    residency = Shelf().residency(limit=1)
    async with residency.use("a"):
        waiting = asyncio.create_task(residency.load("b"))
        await asyncio.sleep(0.05)
        assert residency.versions() == ["a"]
        assert not waiting.done()
    await waiting
    assert residency.versions() == ["b"]


async def test_a_waiter_that_gives_up_does_not_stop_the_load() -> None:
    shelf = Shelf()
    residency = shelf.residency()
    shelf.gate.clear()
    first, second = asyncio.create_task(residency.load("a")), asyncio.create_task(residency.load("a"))
    await asyncio.sleep(0.05)
    first.cancel()
    shelf.gate.set()
    assert await second is False
    assert shelf.loads == ["/a"]


@pytest.mark.parametrize(("version", "error"), [("nowhere", NotFound), ("broken", FailedPrecondition)])
async def test_a_failed_load_is_told_and_leaves_room(version: str, error: type[Exception]) -> None:
    residency = Shelf().residency(limit=1)
    await residency.load("a")
    with pytest.raises(error):
        await residency.load(version)
    assert residency.versions() == (["a"] if version == "nowhere" else [])
    await residency.load("b")


async def test_an_unloaded_version_serves_those_who_have_it() -> None:
    residency = Shelf().residency()
    async with residency.use("a") as value:
        await residency.unload("a")
        await residency.unload("a")
        assert residency.versions() == []
        assert value == "/A"
    assert await residency.load("a") is False
