"""The decoder through its own door: imports, rankings, and how the two agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from langptune.domain import Item
from langptune.errors import FailedPrecondition, InvalidArgument, NotFound
from langptune.text import item_text
from services.decoder.decoder import Query
from services.decoder.embedder import Embedder
from services.decoder.ranking import RankQuery
from services.decoder.settings import DecoderSettings
from tests.unit.decoder.conftest import Models, OpenBench
from tests.unit.decoder.items import random_items, random_text


async def test_storing_is_idempotent_and_a_changed_item_is_embedded_again(
    open_bench: OpenBench, models: Models, settings: DecoderSettings
) -> None:
    items = random_items(30)
    async with open_bench() as bench:
        (first, _), decoder = bench.versions, bench.decoder
        async with decoder.versions.use(first) as version:
            assert await decoder.items.store(items) == 30
            before = version.matrix
            assert await decoder.items.store(items) == 0
            assert version.matrix is before

            changed = replace(items[3], title="dragon queen", price=None)
            assert await decoder.items.store([*items[:3], changed]) == 1
            assert await decoder.catalogue.get([changed.item_id]) == [changed]
            expected = Embedder.load(str(models.first), settings).embed([item_text(changed)])[0]
            place = version.matrix.position(changed.item_id)
            assert place is not None
            np.testing.assert_allclose(version.matrix.rows([place])[0], expected, atol=1e-6)
            assert await version.index.get([changed.item_id]) == [changed]


async def test_of_two_items_with_one_id_the_later_counts(open_bench: OpenBench) -> None:
    async with open_bench() as bench:
        assert await bench.decoder.items.store([Item("a", "old"), Item("a", "new")]) == 1
        assert await bench.decoder.catalogue.get(["a"]) == [Item("a", "new")]


async def test_everything_is_there_after_reopening_without_embedding_again(
    open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = random_items(40)
    query = [Query(random_text(1), ["i0007"])]
    async with open_bench() as bench:
        await bench.decoder.items.store(items)
        before = await bench.decoder.rank_targets(bench.versions[0], query, None)
    embedded: list[int] = []
    original = Embedder.embed
    monkeypatch.setattr(
        Embedder, "embed", lambda self, texts, **kind: (embedded.append(len(texts)), original(self, texts, **kind))[1]
    )
    async with open_bench() as bench:
        assert await bench.decoder.rank_targets(bench.versions[0], query, None) == before
        assert embedded == [8, 1]  # a sample that is held against what is stored, and the query
        assert len(bench.decoder.catalogue) == 40


async def test_pages_cover_the_catalogue_once_in_the_order_of_ids(open_bench: OpenBench) -> None:
    items = random_items(25)
    async with open_bench() as bench:
        catalogue = bench.decoder.catalogue
        await bench.decoder.items.store(reversed(items))
        seen: list[Item] = []
        more = True
        while more:
            page, more = await catalogue.page(seen[-1].item_id if seen else "", 10)
            seen += page
        assert seen == items
        assert await catalogue.page("i0009", 10) == (items[10:20], True)
        assert await catalogue.page("i0009x", 15) == (items[10:], False)  # the item may be gone by now
        assert await catalogue.page("i0024", 10) == ([], False)
        assert await bench.decoder.items.delete(["i0003", "nobody", "i0003"]) == {"i0003"}
        assert await catalogue.page("i0001", 2) == ([items[2], items[4]], True)


async def test_rank_and_rank_targets_agree_with_each_other_and_with_brute_force(
    open_bench: OpenBench, models: Models, settings: DecoderSettings
) -> None:
    """All three read vectors of the same model; places may differ only where similarities do by less than 1e-5."""
    items = random_items(200)
    embedder = Embedder.load(str(models.first), settings)
    vectors = embedder.embed([item_text(item) for item in items]).astype(np.float64)
    exclude = [item.item_id for item in items[::7]]
    kept = [at for at in range(200) if at % 7]
    async with open_bench() as bench:
        decoder, version = bench.decoder, bench.versions[0]
        await decoder.items.store(items)
        for seed in range(12):
            text = random_text(seed)
            ranking = await decoder.rank(version, RankQuery(text, 200, exclude))
            assert sorted(hit.item.item_id for hit in ranking.hits) == [items[at].item_id for at in kept]
            similarities = vectors @ embedder.embed([text])[0].astype(np.float64)
            scores = [similarities[int(hit.item.item_id[1:])] for hit in ranking.hits]
            np.testing.assert_allclose([hit.score for hit in ranking.hits], scores, atol=1e-5)
            np.testing.assert_allclose(scores, sorted(similarities[kept], reverse=True), atol=1e-5)

            asked = [Query(text, [hit.item.item_id], exclude) for hit in ranking.hits]
            results, size = await decoder.rank_targets(version, asked, None)
            assert size == 200
            for place, result in enumerate(results, start=1):
                assert abs(scores[place - 1] - scores[result.ranks[0] - 1]) < 1e-5
            assert [hit.item for hit in (await decoder.rank(version, RankQuery(text, 5, exclude))).hits] == [
                hit.item for hit in ranking.hits[:5]
            ]


async def test_the_matrix_holds_the_vectors_of_the_index(open_bench: OpenBench) -> None:
    async with open_bench() as bench, bench.decoder.versions.use(bench.versions[0]) as version:
        await bench.decoder.items.store(random_items(20))
        await bench.decoder.items.store(random_items(40, seed=5)[10:])
        ((item_ids, vectors),) = [block async for block in version.index.vectors()]
        order = version.matrix.positions(item_ids)
        assert len(order) == len(version.matrix) == 40
        assert np.array_equal(version.matrix.rows(order), vectors)


async def test_metrics_follow_from_the_ranks(open_bench: OpenBench) -> None:
    """The item's own text ranks it first: NDCG 1. Two targets at 1 and beyond the cutoff 1: recall 1/2, MRR 1, NDCG 1."""
    items = random_items(30)
    async with open_bench() as bench:
        await bench.decoder.items.store(items)
        own = item_text(items[4])
        (best,), _ = await bench.decoder.rank_targets(bench.versions[0], [Query(own, ["i0004"])], None)
        assert (best.ranks, best.quality.ndcg, best.quality.recall, best.quality.mrr) == ([1], 1.0, 1.0, 1.0)
        (two,), _ = await bench.decoder.rank_targets(bench.versions[0], [Query(own, ["i0009", "i0004"])], 1)
        assert two.ranks[1] == 1
        assert two.ranks[0] > 1
        assert (two.quality.ndcg, two.quality.recall, two.quality.mrr) == (1.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        (Query("x", ["i0001", "nobody"]), "queries[1].target_item_ids[1]", "no item 'nobody'"),
        (Query("x", ["i0001"], ["i0001"]), "queries[1].target_item_ids[0]", "excluded"),
        (Query("x", ["i0001", "i0001"]), "queries[1].target_item_ids[1]", "twice"),
    ],
)
async def test_bad_targets_are_named(open_bench: OpenBench, query: Query, field: str, says: str) -> None:
    async with open_bench() as bench:
        await bench.decoder.items.store(random_items(5))
        with pytest.raises(InvalidArgument, match=says) as caught:
            await bench.decoder.rank_targets(bench.versions[0], [Query("fine", ["i0002"], ["nobody"]), query], None)
        assert caught.value.field == field


async def test_an_empty_catalogue_cannot_be_ranked_and_an_empty_text_can(open_bench: OpenBench) -> None:
    async with open_bench() as bench:
        with pytest.raises(FailedPrecondition, match="empty"):
            await bench.decoder.rank(bench.versions[0], RankQuery("text", 3))
        with pytest.raises(FailedPrecondition, match="empty"):
            await bench.decoder.rank_targets(bench.versions[0], [Query("text", ["a"])], None)
        await bench.decoder.items.store(random_items(5))
        (result,), _ = await bench.decoder.rank_targets(bench.versions[0], [Query("", ["i0001"])], None)
        assert 1 <= result.ranks[0] <= 5


async def test_an_unknown_version_is_not_found_and_leaves_nothing(open_bench: OpenBench) -> None:
    async with open_bench() as bench:
        await bench.decoder.items.store(random_items(5))
        with pytest.raises(NotFound, match="decoder version 'nope'"):
            await bench.decoder.rank("nope", RankQuery("text", 3))
        assert bench.decoder.versions.resident() == []
