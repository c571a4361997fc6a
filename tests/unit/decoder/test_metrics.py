"""What the decoder tells at a scrape: sizes, cache counts and running loads, as they are then."""

from __future__ import annotations

import asyncio

from prometheus_client import REGISTRY

from langptune.domain import Item
from services.decoder import metrics
from services.decoder.decoder import Decoder, Query
from tests.unit.decoder.conftest import OpenBench

ITEMS = [Item(item_id=f"i{number}", title=f"Title {number}") for number in range(6)]


def _told(decoder: Decoder) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name to label values to value."""
    families = list(metrics.state(decoder))
    found: dict[str, dict[tuple[str, ...], float]] = {family.name: {} for family in families}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


async def test_sizes_and_cache_counts_are_those_of_the_moment(open_bench: OpenBench) -> None:
    """Two distinct texts asked for twice each: two misses, then two hits. Six vectors of d float32: 24 d bytes."""
    async with open_bench() as bench:
        decoder, version = bench.decoder, bench.versions[0]
        before = REGISTRY.get_sample_value("langptune_decoder_embed_texts_sum", {"of": "items"}) or 0.0
        async with decoder.versions.use(version) as found:
            await decoder.items.store(ITEMS)
            for _ in range(2):
                await decoder.rank_targets(version, [Query("one", ["i1"]), Query("two", ["i2"])], None)
            told = _told(decoder)
            assert told["langptune_decoder_matrix_bytes"] == {(version,): 24.0 * found.dimensions}
        assert told["langptune_decoder_catalogue_items"] == {(): 6.0}
        assert told["langptune_decoder_index_items"] == {(version,): 6.0}
        assert told["langptune_decoder_query_cache_misses_total"] == {(version,): 2.0}
        assert told["langptune_decoder_query_cache_hits_total"] == {(version,): 2.0}
        assert told["langptune_decoder_load_items"] == {}
        assert (REGISTRY.get_sample_value("langptune_decoder_embed_texts_sum", {"of": "items"}) or 0.0) >= before + 6.0
        await decoder.versions.unload(version)
        assert _told(decoder)["langptune_decoder_index_items"] == {}


async def test_a_load_tells_how_far_it_is(open_bench: OpenBench) -> None:
    async with open_bench() as bench:
        decoder, (first, second) = bench.decoder, bench.versions
        async with decoder.versions.use(first):
            await decoder.items.store(ITEMS)
        load = decoder.versions.load(second)
        await anext(load)
        assert _told(decoder)["langptune_decoder_load_items"] == {(second,): 6.0}
        async for _ in load:
            await asyncio.sleep(0)
        told = _told(decoder)
        assert (told["langptune_decoder_load_items"], told["langptune_decoder_index_items"][second,]) == ({}, 6.0)


def test_before_the_catalogue_is_open_there_is_nothing_to_tell() -> None:
    assert list(metrics.state(None)) == []
