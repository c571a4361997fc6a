"""Everybody's profile and the catalogue in two shards, as two pods would do it, over a real gateway; cut off, and done again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from langptune.client import LangPTune, NewInteraction
from langptune.operations.bulk import Bulk
from langptune.operations.shards import Shard
from tests.integration.gateway.world import World

USERS = [f"bulk-{number}" for number in range(10)]


class CutOff(Exception):
    """The pod is gone."""


@pytest.fixture
async def users(world: World, lp: LangPTune, tmp_path: Path) -> Path:
    """Nine users with a history of two items, and one without, twice in the table, in row groups of four."""
    items = list(world.dataset.items.values())
    await lp.import_items(items)
    for number, user in enumerate(USERS[:-1]):
        await lp.record_interactions(user, [NewInteraction(items[number + at].item_id, 4.0) for at in range(2)])
    table = pa.table({"user_id": [user for user in USERS for _ in range(2)]})
    pq.write_table(table, tmp_path / "users.parquet", row_group_size=4)
    return tmp_path / "users.parquet"


def _bulk(lp: LangPTune, source: Path, index: int, batch: int = 4) -> Bulk:
    return Bulk(lp, source, Shard(index, 2), source.with_suffix(".marks"), batch, in_flight=4, patience=60.0)


def _renamed(source: Path) -> Path:
    """The same table as another piece of work."""
    return source.rename(source.with_name("again.parquet"))


async def _revisions(lp: LangPTune) -> list[int]:
    return [(await lp.get_profile(user)).revision for user in USERS[:-1]]


async def test_two_shards_write_every_profile_once_though_one_is_cut_off(world: World, lp: LangPTune, users: Path) -> None:
    """Shard 0 has rows 0-9, shard 1 rows 10-19; shard 0 dies after the mark of its first batch of four rows."""
    version = world.release.encoder_version
    await lp.update_profile(USERS[1], "My own words.")

    def cut(done: int, total: int) -> None:
        assert total == 10
        if done == 4:
            raise CutOff

    with pytest.raises(CutOff):
        await _bulk(lp, users, 0).profiles(version, cut)
    told: list[int] = []
    first, second = await asyncio.gather(
        _bulk(lp, users, 0).profiles(version, lambda done, _: told.append(done)),
        _bulk(lp, users, 1).profiles(version, lambda *_: None),
    )
    assert told[0] == 4  # it went on at the mark
    assert (first.shard, first.rows, second.rows) == ("0/2", 10, 10)
    assert first.counts == {"written": 4, "current": 1}
    assert second.counts == {"written": 4, "without_history": 1}
    assert await _revisions(lp) == [1] * 9
    assert (await lp.get_profile(USERS[1])).text == "My own words."

    again = await _bulk(lp, _renamed(users), 1).profiles(version, lambda *_: None)  # other work: from 0
    assert again.counts["current"] == 4
    assert await _revisions(lp) == [1] * 9


async def test_two_shards_import_the_catalogue_and_again_without_change(world: World, lp: LangPTune, tmp_path: Path) -> None:
    items = tmp_path / "items.parquet"
    items.write_bytes((world.dataset.folder / "items.parquet").read_bytes())
    others = {item.item_id async for item in lp.list_items(page_size=100)} - world.dataset.items.keys()  # of other tests
    for attempt in ("first", "second"):
        source = items if attempt == "first" else _renamed(items)
        reports = await asyncio.gather(*(_bulk(lp, source, index, batch=25).items(lambda *_: None) for index in (0, 1)))
        assert [report.rows for report in reports] == [60, 60]
        assert all(sum(report.counts.values()) == 60 and "rejected" not in report.counts for report in reports)
    assert [report.counts for report in reports] == [{"unchanged": 60}] * 2
    assert {item.item_id async for item in lp.list_items(page_size=100)} == world.dataset.items.keys() | others
