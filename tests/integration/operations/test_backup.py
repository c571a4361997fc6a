"""State goes through a backup unchanged, over two real Redis servers; what expires, and what is not ours, stays behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from redis.asyncio import Redis

from langptune.domain import Item
from langptune.errors import FailedPrecondition
from langptune.operations.backup import check, read_items, restore, take
from services.gateway.interactions.store import Entry, Interactions
from services.gateway.live import Pins
from services.gateway.profiles.store import Profiles
from tests.support.redis import running_redis

ITEMS = [
    Item("i1", "Alien", "In space", ("Horror", "Science Fiction"), 4.5, 9.99, {"year": 1979.0, "seen": True, "cast": ("A", "B")}),
    Item("i2", "Émile"),
]


async def _items(items: Sequence[Item]) -> AsyncIterator[Item]:
    for item in items:
        yield item


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights" / "encoder" / "v1"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "model.safetensors").write_bytes(bytes(range(256)))
    (folder / "manifest.json").write_text("{}")
    return tmp_path / "weights"


@pytest.fixture(scope="module")
def other_redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    with running_redis(tmp_path_factory.mktemp("other")) as url:
        yield url


async def test_everything_that_lasts_comes_back(redis_url: str, other_redis: str, weights: Path, tmp_path: Path) -> None:
    backup, target = tmp_path / "backup", tmp_path / "restored"
    async with Redis.from_url(redis_url) as living, Redis.from_url(other_redis) as empty:
        await Interactions(living, 100).record({f"u{n}": [Entry("i1", 4.0, "Good.", 1_000 + n)] for n in range(1_200)})
        edited = await Profiles(living, 10).edit("u7", "I like horror.", "", Pins("e", "d", "r1"))
        await living.set("langptune:publish:lease", "token", px=60_000)
        await living.set("somebody-elses", "1")
        summary = await take(backup, living, _items(ITEMS), str(weights))
        assert (summary.items, summary.weights_files) == (2, 2)

        await restore(backup, empty, str(target))
        assert await Profiles(empty, 10).get("u7") == edited
        assert await Interactions(empty, 100).popular(1) == [("i1", 1.0)]
        assert await Interactions(empty, 100).latest("u1199", 5) == [Entry("i1", 4.0, "Good.", 2_199)]
        left_behind = {b"langptune:publish:lease", b"somebody-elses"}
        assert set(await empty.keys("*")) == set(await living.keys("*")) - left_behind
        with pytest.raises(FailedPrecondition, match="empty one"):
            await restore(backup, empty, str(target))
    assert list(read_items(backup)) == ITEMS
    assert (target / "encoder" / "v1" / "deep" / "model.safetensors").read_bytes() == bytes(range(256))
    assert (target / "encoder" / "v1" / "manifest.json").read_text() == "{}"


async def test_a_backup_that_was_cut_off_is_none(redis_url: str, weights: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"

    async def breaking() -> AsyncIterator[Item]:
        yield ITEMS[0]
        raise ConnectionError("the gateway went away")

    async with Redis.from_url(redis_url) as living:
        with pytest.raises(ConnectionError):
            await take(backup, living, breaking(), str(weights))
    with pytest.raises(FailedPrecondition, match="no complete backup"):
        check(backup)
