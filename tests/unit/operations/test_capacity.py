"""The arithmetic of sizes by hand, the unit costs that are called measured against the real thing, and the table of the guide."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from redis.asyncio import Redis

from langptune.errors import InvalidArgument
from langptune.operations.capacity import INDEX_SIZES, SOURCES, Capacity, Costs, Demand, capacity
from services.decoder.index.layout import LAYOUTS
from services.decoder.matrix import Matrix
from services.gateway.interactions.store import Entry, Interactions
from services.gateway.live import Pins
from services.gateway.profiles.store import Profiles
from tests.support.system import Run, command_line

PAGE = Path(__file__).parents[3] / "docs" / "operations.md"
GIB = 1 << 30
COSTS = Costs()
REVIEW = "A review of about sixty characters, as most of them are here"
PINS = Pins("base-0123456789abcdef", "base-0123456789abcdef", "r1")


@pytest.fixture
def lp(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return command_line(monkeypatch, capsys)


def test_a_small_demand_by_hand() -> None:
    """One GPU writes 2,000 / 300 x 0.6 = 4 profiles a second, 345,600 a day.

    864,000 a day at three times the mean are 30 a second: 8 GPUs, which write 10,000,000 profiles in 3.617 days. 480 rankings a
    second at 200 x 0.6 a replica: 4 replicas. 7,200 items take 7,200 / (200 x 0.6) = 60 s to embed.
    """
    found = capacity(Demand(10_000_000, 7_200, 864_000, 480), COSTS)
    assert (found.encoder_gpus, found.decoders, found.index_size) == (8, 4, "10k")
    assert found.refresh_days == pytest.approx(10_000_000 / 32 / 86_400)
    assert found.embed_hours == pytest.approx(1 / 60)
    user = 2_800 + 50 * 240 + 5 * 1_600
    assert found.redis_gib == pytest.approx(10_000_000 * user / GIB)
    assert not found.redis_fits


def test_a_large_catalogue_by_hand() -> None:
    """10M items of 1,024 dimensions: codes of a byte a dimension and 16 x 2 links of 4 bytes in memory, twice, three versions."""
    found = capacity(Demand(1_000, 10_000_000, 100, 1), COSTS)
    assert (found.index_size, found.qdrant_shards, found.qdrant_replicas, found.decoders) == ("100m", 12, 2, 2)
    assert found.qdrant_gib == pytest.approx(10_000_000 * 2 * 3 * (1_024 + 128) / GIB)
    disk = 3 * (2_048 + 1_024 + 128) + 4 * 1_500
    assert found.qdrant_disk_gib == pytest.approx(10_000_000 * 2 * disk / GIB)
    assert found.decoder_gib == pytest.approx(3 + 10_000_000 * (180 + 3 * (2_048 + 150)) / GIB)


def test_more_of_anything_needs_no_less() -> None:
    small, large = (capacity(Demand(n, n, n, n), COSTS) for n in (10_000, 10_000_000))
    for field in fields(Capacity):
        if field.type == "int" or field.name.endswith("_gib"):
            assert getattr(large, field.name) >= getattr(small, field.name), field.name


def test_sizes_are_those_of_the_decoder() -> None:
    for size in INDEX_SIZES:
        layout = LAYOUTS[size.name]  # type: ignore[index]  # the test is that it is one
        assert (size.shards, size.replicas, size.number_bytes) == (
            layout.shards,
            layout.replicas,
            np.dtype(layout.vectors).itemsize,
        )
        assert size.codes_in_memory == (layout.on_disk and layout.quantisation == "int8")
        assert size.graph_degree == (layout.graph_degree if layout.graph else 0)


def test_every_cost_has_a_source_and_can_be_changed() -> None:
    assert list(SOURCES) == [field.name for field in fields(Costs)]
    assert all(source.split(":")[0] in ("measured", "assumed", "exact") for source in SOURCES.values())
    doubled = capacity(Demand(10**7, 100, 864_000, 1), COSTS.with_values({"encoder_tokens_per_second": 4_000.0}))
    assert doubled.encoder_gpus == 4
    with pytest.raises(InvalidArgument, match="no_such"):
        COSTS.with_values({"no_such": 1.0})
    with pytest.raises(InvalidArgument, match="above 0"):
        COSTS.with_values({"load": 0.0})


async def _memory(client: Redis) -> int:
    return int((await client.info("memory"))["used_memory"])


async def _recorded(client: Redis, count: int, users: int) -> float:
    """Bytes a user of `count` interactions."""
    before = await _memory(client)
    entries = [Entry(f"item-{number:05d}", 4.0, REVIEW, 1_700_000_000_000 + number) for number in range(count)]
    await Interactions(client, 10_000).record({f"n{count}-{user:05d}": entries for user in range(users)})
    return (await _memory(client) - before) / users


async def _edited(client: Redis, count: int, users: int) -> float:
    """Bytes a user of `count` revisions of 1,200 characters."""
    before = await _memory(client)
    profiles = Profiles(client, 100)
    for user in range(users):
        etag = ""
        for number in range(count):
            etag = (await profiles.edit(f"n{count}-{user:05d}", f"{number:04d}" + "x" * 1_196, etag, PINS)).etag
    return (await _memory(client) - before) / users


async def test_what_a_person_takes_in_redis_is_measured(redis_url: str) -> None:
    """Costs of one more interaction and revision by difference; what is left over is the user's own."""
    async with Redis.from_url(redis_url) as client:
        await _recorded(client, 50, 10)  # the items' popularity is there once for all users
        few, many = await _recorded(client, 10, 100), await _recorded(client, 50, 101)
        one, five = await _edited(client, 1, 60), await _edited(client, 5, 61)
    interaction, revision = (many - few) / 40, (five - one) / 4
    assert interaction == pytest.approx(COSTS.interaction_bytes, rel=0.25)
    assert revision == pytest.approx(COSTS.revision_bytes, rel=0.25)
    assert few - 10 * interaction + one - revision == pytest.approx(COSTS.user_bytes, rel=0.25)


def test_what_an_item_takes_in_a_decoder_is_measured() -> None:
    count = 20_000
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        revisions = {f"item-{number:07d}": f"{number:016x}" for number in range(count)}
        order = sorted(revisions)
        catalogue = tracemalloc.get_traced_memory()[0]
        matrix = Matrix([f"item-{number:07d}" for number in range(count)], np.zeros((count, 1), dtype=np.float16))
        both = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(order) == len(matrix) == count
    assert (catalogue - start) / count == pytest.approx(COSTS.item_bytes, rel=0.25)
    assert (both - catalogue) / count == pytest.approx(COSTS.item_version_bytes, rel=0.25)


def test_the_guides_table_is_what_the_command_says(lp: Run) -> None:
    rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| (.*) \|$", PAGE.read_text(), re.M)
    assert len(rows) >= 5
    for users, items, profiles, rest in rows:
        counts = [number.replace(",", "") for number in (users, items)]
        told = lp("plan", "capacity", "--users", counts[0], "--items", counts[1], "--json").json()
        assert f"{told['demand']['profiles_per_day']:,.0f}" == profiles
        found = told["capacity"]
        assert rest == " | ".join(
            [
                f"{found['encoder_gpus']:,}",
                f"{found['decoders']:,} x {found['decoder_gib']:,.1f} GiB",
                f"{found['qdrant_shards']} x {found['qdrant_replicas']}",
                f"{found['qdrant_gib']:,.1f}, {found['qdrant_disk_gib']:,.1f} GiB",
                f"{found['redis_gib']:,.1f} GiB" + ("" if found["redis_fits"] else " (!)"),
                f"{found['embed_hours']:,.1f} h",
                f"{found['refresh_days']:,.1f} days",
            ]
        )


def test_a_bad_demand_is_refused_by_name(lp: Run) -> None:
    assert lp("plan", "capacity", "--users", "0", "--items", "5", "--json").error()["field"] == "users"
    assert lp("plan", "capacity", "--users", "5", "--items", "5", "--cost", "load=x", "--json").error()["field"] == "cost"
