"""Versions: built from the catalogue, kept at the catalogue, sharing loads, leaving memory, forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from langptune.domain import Item
from langptune.errors import FailedPrecondition, ResourceExhausted, Unavailable
from langptune.text import item_text
from services.decoder.build import Builder
from services.decoder.catalogue import catalogue_entry
from services.decoder.decoder import Query
from services.decoder.embedder import Embedder
from services.decoder.index import Entry
from services.decoder.index.edge import EdgeCollection
from services.decoder.ranking import RankQuery
from services.decoder.settings import DecoderSettings
from services.decoder.versions import Progress
from tests.unit.decoder.conftest import Bench, Models, OpenBench
from tests.unit.decoder.items import random_items, random_text


def resident(bench: Bench) -> list[str]:
    return [version.version for version in bench.decoder.versions.resident()]


async def test_a_new_version_is_built_from_the_catalogue_beside_the_old(
    open_bench: OpenBench, models: Models, settings: DecoderSettings
) -> None:
    items = random_items(700)
    async with open_bench(embed_batch_tokens=2_048) as bench:
        first, second = bench.versions
        async with bench.decoder.versions.use(first) as old:
            await bench.decoder.items.store(items)
            before = old.matrix
            told = [progress async for progress in bench.decoder.versions.load(second)]
            assert old.matrix is before
        counts = [progress.embedded for progress in told]
        assert counts == sorted(counts)
        assert len(set(counts)) > 3
        assert all(progress.total == 700 for progress in told)
        async with bench.decoder.versions.use(second) as new:
            assert len(new.matrix) == 700
            assert await new.index.get(["i0042"]) == [items[42]]
            expected = Embedder.load(str(models.second), settings).embed([item_text(items[42])])[0]
            np.testing.assert_allclose(new.matrix.rows(new.matrix.positions(["i0042"]))[0], expected, atol=1e-6)
        assert [progress async for progress in bench.decoder.versions.load(second)] == []


async def test_imports_reach_every_version_in_memory_and_the_others_when_they_are_loaded(open_bench: OpenBench) -> None:
    items = random_items(60)
    async with open_bench(decoder_max_resident_versions=1) as bench:
        (first, second), decoder = bench.versions, bench.decoder
        await decoder.items.store(items[:20])
        async with decoder.versions.use(first) as one, decoder.versions.use(second) as two:
            await decoder.items.store(items[20:40])
            assert len(one.matrix) == len(two.matrix) == 40
        await decoder.rank(second, RankQuery("text", 3))
        assert resident(bench) == [second]
        await decoder.items.store(items[40:])
        for version in (first, second, first):
            async with decoder.versions.use(version) as found:
                assert sorted(found.matrix.item_ids) == [item.item_id for item in items]


async def test_the_version_used_longest_ago_leaves_memory_and_comes_back(open_bench: OpenBench) -> None:
    async with open_bench(decoder_max_resident_versions=1) as bench:
        (first, second), decoder = bench.versions, bench.decoder
        await decoder.items.store(random_items(10))
        before = await decoder.rank(first, RankQuery(random_text(0), 10))
        async with decoder.versions.use(first):
            await decoder.rank(second, RankQuery("text", 3))
            assert first in resident(bench)  # in use: stays although it is the elder
        await decoder.rank(second, RankQuery("text", 3))
        assert resident(bench) == [second]
        assert await decoder.rank(first, RankQuery(random_text(0), 10)) == before


async def test_callers_share_one_load_and_it_goes_on_when_one_leaves(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    original = Embedder.load
    monkeypatch.setattr(Embedder, "load", lambda model, settings: (loads.append(model), original(model, settings))[1])
    async with open_bench() as bench:
        await bench.decoder.items.store(random_items(50))

        async def rank(text: str) -> None:
            await bench.decoder.rank(bench.versions[0], RankQuery(text, 3))

        impatient = asyncio.create_task(rank("war"))
        others = [asyncio.create_task(rank(random_text(seed))) for seed in range(5)]
        await asyncio.sleep(0)
        impatient.cancel()
        await asyncio.gather(*others)
        assert len(loads) == 1


async def test_a_build_that_was_interrupted_goes_on_where_it_stopped(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second write of the build fails; the version is not usable; the next load embeds only what is missing."""
    items = random_items(1_100)
    async with open_bench(decoder_inline_items=1_100) as bench:
        decoder, (first, second) = bench.decoder, bench.versions
        await decoder.items.store(items)
        writes = 0
        original = EdgeCollection.put

        async def put(self: EdgeCollection, entries: Sequence[Entry]) -> None:
            nonlocal writes
            writes += 1
            if writes == 2:
                raise ResourceExhausted("the disk is full", retry_after=1.0)
            await original(self, entries)

        with monkeypatch.context() as patch:
            patch.setattr(EdgeCollection, "put", put)
            with pytest.raises(ResourceExhausted):
                await decoder.rank(second, RankQuery("text", 3))
        assert resident(bench) == []
        assert len((await decoder.rank(first, RankQuery("text", 3))).hits) == 3
        told = [progress async for progress in decoder.versions.load(second)]
        assert Progress(512, 1_100) in told
        assert min(progress.embedded for progress in told[1:]) == 512
        assert len(resident(bench)) == 2


async def test_a_version_that_cannot_follow_an_import_leaves_and_catches_up(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_bench() as bench:
        decoder, version = bench.decoder, bench.versions[0]
        await decoder.items.store(random_items(10))
        await decoder.rank(version, RankQuery("text", 3))
        original = EdgeCollection.put

        async def put(self: EdgeCollection, entries: Sequence[Entry]) -> None:
            if entries[0].vector is not None:
                raise ResourceExhausted("the disk is full", retry_after=1.0)
            await original(self, entries)

        with monkeypatch.context() as patch:
            patch.setattr(EdgeCollection, "put", put)
            assert await decoder.items.store([Item("new", "ghost train")]) == 1
        assert resident(bench) == []
        (found,), size = await decoder.rank_targets(version, [Query(item_text(Item("new", "ghost train")), ["new"])], None)
        assert (found.ranks, size) == ([1], 11)


async def test_another_token_limit_embeds_the_catalogue_again(open_bench: OpenBench) -> None:
    async with open_bench() as bench:
        await bench.decoder.items.store(random_items(10))
        async with bench.decoder.versions.use(bench.versions[0]) as found:
            before = found.matrix
    async with open_bench(embedder_max_tokens=10) as bench, bench.decoder.versions.use(bench.versions[0]) as found:
        now = found.matrix.rows(found.matrix.positions(before.item_ids))
        assert not np.allclose(now, before.rows(range(len(before))), atol=1e-3)


async def test_unloading_forgets_the_index_and_is_idempotent(open_bench: OpenBench, settings: DecoderSettings) -> None:
    async with open_bench() as bench:
        decoder, version = bench.decoder, bench.versions[1]
        await decoder.items.store(random_items(10))
        before = await decoder.rank(version, RankQuery(random_text(2), 5))
        folder = Path(settings.decoder_data) / f"version-{version}"
        assert folder.is_dir()
        await decoder.versions.unload(version)
        await decoder.versions.unload(version)
        await decoder.versions.unload("never-there")
        assert not folder.exists()
        assert resident(bench) == []
        assert await decoder.rank(version, RankQuery(random_text(2), 5)) == before


async def test_unloading_waits_for_the_last_user(open_bench: OpenBench) -> None:
    async with open_bench() as bench:
        decoder, version = bench.decoder, bench.versions[0]
        await decoder.items.store(random_items(10))
        async with decoder.versions.use(version) as found:
            unloading = asyncio.create_task(decoder.versions.unload(version))
            await asyncio.sleep(0.05)
            assert not unloading.done()
            assert await found.index.count() == 10
        await asyncio.wait_for(unloading, 5)


async def test_an_import_while_a_version_is_being_built_is_not_lost(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build's first batch waits until an import has come in between."""
    stored = asyncio.Event()
    building = asyncio.Event()
    loop = asyncio.get_running_loop()
    original = Embedder.embed

    def embed(self: Embedder, texts: Sequence[str], *, queries: bool = False) -> NDArray[np.float32]:
        loop.call_soon_threadsafe(building.set)
        asyncio.run_coroutine_threadsafe(stored.wait(), loop).result(30)
        return original(self, texts, queries=queries)

    async with open_bench() as bench:
        await bench.decoder.items.store(random_items(20))
        monkeypatch.setattr(Embedder, "embed", embed)
        ranking = asyncio.create_task(bench.decoder.rank(bench.versions[1], RankQuery("text", 100)))
        await asyncio.wait_for(building.wait(), 30)
        await bench.decoder.items.store(random_items(40, seed=9)[15:])  # five of the old ones changed, 20 are new
        stored.set()
        found = {hit.item.item_id: hit.item for hit in (await ranking).hits}
        expected = {item.item_id: item for item in [*random_items(20)[:15], *random_items(40, seed=9)[15:]]}
        assert found == expected


async def test_a_large_build_has_its_own_process_and_goes_on_after_a_failed_one(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The builder, on two devices, dies after its first 512 items; the next goes on, and gives what the serving process gives."""
    items = random_items(600)
    settings = {"decoder_vectors": "float16", "decoder_graph": True, "decoder_build_niceness": 0}
    settings["decoder_build_devices"] = ("cpu", "cpu")
    async with open_bench(decoder_inline_items=600, **settings) as bench:
        await bench.decoder.items.store(items)
        async with bench.decoder.versions.use(bench.versions[1]) as found:
            expected = found.matrix
        await bench.decoder.versions.unload(bench.versions[1])
    async with open_bench(decoder_inline_items=0, **settings) as bench:
        version = bench.versions[1]
        original = Builder.embed

        async def embed(self: Builder, items: Sequence[Item]) -> None:
            await original(self, items)
            await self.__aexit__(None, None, None)

        with monkeypatch.context() as patch:
            patch.setattr(Builder, "embed", embed)
            with pytest.raises(Unavailable, match="has died"):
                await bench.decoder.rank(version, RankQuery("text", 3))
        told = [progress async for progress in bench.decoder.versions.load(version)]
        assert min(progress.embedded for progress in told[1:]) == 512
        async with bench.decoder.versions.use(version) as found:
            order = [item.item_id for item in items]
            built = found.matrix.rows(found.matrix.positions(order))
            np.testing.assert_allclose(built, expected.rows(expected.positions(order)), atol=1e-3)
            assert (await found.index.count(), built.shape) == (600, (600, 16))


async def test_an_index_that_is_not_the_embedders_is_not_used(open_bench: OpenBench) -> None:
    async with open_bench() as bench:
        await bench.decoder.items.store(random_items(20))
        async with bench.decoder.versions.use(bench.versions[0]) as found:
            entries = await found.embed(list(map(catalogue_entry, random_items(20))))
            await found.index.put([replace(entry, vector=-entry.vector) for entry in entries if entry.vector is not None])
        bench.decoder.versions.retire(found)
        with pytest.raises(FailedPrecondition, match="does not fit its embedder"):
            await bench.decoder.rank(bench.versions[0], RankQuery("text", 3))
        await bench.decoder.versions.unload(bench.versions[0])
        assert len((await bench.decoder.rank(bench.versions[0], RankQuery("text", 3))).hits) == 3
