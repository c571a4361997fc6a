"""Rankings by profile and history, with what is unwanted, for variety, by pages; each against a computation by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from langptune.domain import Interaction, Item
from langptune.errors import InvalidArgument, NotFound
from langptune.text import history_text, interaction_text, item_text, liking_text, sentences
from langptune.v1 import common_pb2, decoder_pb2
from services.decoder.decoder import Query
from services.decoder.embedder import Embedder
from services.decoder.index import AnyOf, Hit, ItemFilter
from services.decoder.matrix import Matrix
from services.decoder.paging import next_token, read_token
from services.decoder.ranking import Ranking, RankQuery, diversify
from services.decoder.settings import DecoderSettings
from services.decoder.unwanted import PENALTY, THRESHOLD, without_categories
from tests.unit.decoder.conftest import Models, OpenBench
from tests.unit.decoder.items import random_items, random_text

HISTORY = [Interaction(Item("h1", "robot war"), 5.0, "quiet"), Interaction(Item("h2", "island"), 2.0)]


@pytest.fixture
def embedder(models: Models, settings: DecoderSettings) -> Embedder:
    return Embedder.load(str(models.first), settings)


def ids(ranking: Ranking) -> list[str]:
    return [hit.item.item_id for hit in ranking.hits]


def best(items: list[Item], scores: NDArray[np.float32], count: int) -> list[str]:
    return [items[at].item_id for at in np.argsort(-scores, kind="stable")[:count]]


async def test_profile_and_history_meet_half_way(open_bench: OpenBench, embedder: Embedder) -> None:
    """Of unit vectors p and h the query is (p + h) / |p + h|; of one alone it is that one."""
    items = random_items(60)
    vectors = embedder.embed([item_text(item) for item in items])
    profile, written = (embedder.embed([text])[0] for text in ("love and war", history_text(HISTORY[-1:])))
    async with open_bench() as bench:
        await bench.decoder.items.store(items)

        async def ranked(**query: object) -> Ranking:
            return await bench.decoder.rank(bench.versions[0], RankQuery(k=5, history=HISTORY[-1:], **query))  # type: ignore[arg-type]  # text only

        alone, both = await ranked(), await ranked(text="love and war")
        assert ids(alone) == best(items, vectors @ written, 5)
        middle = (profile + written) / np.linalg.norm(profile + written)
        assert ids(both) == best(items, vectors @ middle, 5)
        np.testing.assert_allclose([hit.score for hit in both.hits], sorted(vectors @ middle)[:-6:-1], atol=1e-5)
        (exact,), _ = await bench.decoder.rank_targets(
            bench.versions[0], [Query("love and war", ids(both), history=HISTORY[-1:])], None
        )
        assert exact.ranks == [1, 2, 3, 4, 5]


async def test_what_is_avoided_loses_score_exactly_and_pages_agree_with_one_long_list(
    open_bench: OpenBench, embedder: Embedder
) -> None:
    """1,500 items, three times what is looked through at first; brute force in numpy over all of them."""
    items = [replace(item, categories=()) for item in random_items(1_500)]
    text, phrases = random_text(3), ["ghost train", "no dragon"]
    async with open_bench() as bench:
        await bench.decoder.items.store(items)
        async with bench.decoder.versions.use(bench.versions[0]) as version:
            vectors = version.matrix.rows(version.matrix.positions([item.item_id for item in items]))
        wishes = np.concatenate([embedder.embed([liking_text(phrase)]) for phrase in ("ghost train", "dragon")])
        near = vectors @ wishes.T
        beyond = near - near.mean(axis=0) - THRESHOLD * near.std(axis=0)
        scores = vectors @ embedder.embed([text])[0] - PENALTY * np.maximum(beyond, 0).max(axis=1)
        query = RankQuery(text, 700, avoid=phrases)
        whole = await bench.decoder.rank(bench.versions[0], query)
        np.testing.assert_allclose([hit.score for hit in whole.hits], np.sort(scores)[::-1][:700], atol=1e-4)
        assert whole.more
        pages = [await bench.decoder.rank(bench.versions[0], replace(query, k=70, offset=offset)) for offset in range(0, 700, 70)]
        assert [item_id for page in pages for item_id in ids(page)] == ids(whole)
        assert ids(whole) != ids(await bench.decoder.rank(bench.versions[0], RankQuery(text, 700)))

        targets = [0, 7, 400, 1_499]
        query = Query(text, [items[at].item_id for at in targets], [items[3].item_id], avoid=phrases)
        (exact,), _ = await bench.decoder.rank_targets(bench.versions[0], [query], None)
        assert exact.ranks == [1 + int((np.delete(scores, 3) > scores[at] + 1e-6).sum()) for at in targets]


async def test_a_target_of_an_avoided_category_is_named(open_bench: OpenBench) -> None:
    items = [Item("a", "space robot", categories=("Dragon",)), Item("b", "space robot"), Item("c", "moon")]
    async with open_bench() as bench:
        await bench.decoder.items.store(items)
        (exact,), size = await bench.decoder.rank_targets(bench.versions[0], [Query("robot", ["b"], avoid=["dragons"])], None)
        assert (exact.ranks, size) == ([1], 3)
        with pytest.raises(InvalidArgument, match=r"queries\[0\].target_item_ids\[0\]"):
            await bench.decoder.rank_targets(bench.versions[0], [Query("robot", ["a"], avoid=["dragons"])], None)


async def test_items_are_selected_as_a_ranking_would_leave_them_out(open_bench: OpenBench) -> None:
    """What loses no score in a ranking that avoids the phrase is selected, in the order given, and nothing else."""
    items = [replace(item, categories=()) for item in random_items(200)]
    wanted = ["nothing", *(item.item_id for item in items[::-3])]
    async with open_bench() as bench:
        decoder, version = bench.decoder, bench.versions[0]
        await decoder.items.store(items)
        plain, less = [
            {hit.item.item_id: hit.score for hit in (await decoder.rank(version, RankQuery("moon", 200, avoid=avoid))).hits}
            for avoid in ([], ["ghost train"])
        ]
        chosen = await decoder.select(wanted, version, avoid=["ghost train"])
        assert chosen == [item_id for item_id in wanted[1:] if less[item_id] == pytest.approx(plain[item_id], abs=1e-6)]
        assert 0 < len(chosen) < len(wanted) - 1
        assert await decoder.select(wanted, "", avoid=["ghost train"]) == wanted[1:], "without a version only categories tell"


async def test_nearness_is_told_in_deviations_of_the_catalogue(open_bench: OpenBench, embedder: Embedder) -> None:
    """(similarity - mean) / deviation, over the similarities of all 60 items to the text; an item of the catalogue among them."""
    items = random_items(60)
    vectors = embedder.embed([item_text(item) for item in items])
    texts = ["They like robots.", "love and war"]
    sentence_vectors = embedder.embed(texts)
    said = embedder.embed([interaction_text(entry) for entry in HISTORY])
    async with open_bench() as bench:
        await bench.decoder.items.store(items)
        found = await bench.decoder.nearness(bench.versions[0], texts, HISTORY)
    for text, row in zip(sentence_vectors, found, strict=True):
        near = vectors @ text
        np.testing.assert_allclose(row, (said @ text - near.mean()) / near.std(), atol=1e-3)


async def test_a_category_that_a_phrase_names_is_filtered_out(open_bench: OpenBench) -> None:
    items = [Item(f"i{at}", "space robot", categories=(("Dragon", "ghost"), ("ghost",), ("robot",))[at % 3]) for at in range(9)]
    async with open_bench() as bench:
        await bench.decoder.items.store(items)

        async def left(phrase: str) -> set[int]:
            ranking = await bench.decoder.rank(bench.versions[0], RankQuery("space", 9, avoid=[phrase]))
            return {int(item_id[1:]) % 3 for item_id in ids(ranking)}

        assert await left("dragons") == {1, 2}
        assert await left("no Ghost") == {2}
        assert await left("moon") == {0, 1, 2}


def test_categories_join_the_filter_that_is_there() -> None:
    own = ItemFilter(none=(AnyOf("categories", ("war",)),))
    joined = without_categories(own, ["science fiction"])
    assert joined.none[0] == own.none[0]
    assert isinstance(joined.none[1], AnyOf)
    assert {"science fiction", "Science Fiction"} <= set(joined.none[1].values)
    assert "Science" not in joined.none[1].values
    assert without_categories(own, []) is own


def test_diversity_is_maximal_marginal_relevance() -> None:
    """Scores .9, .8, .7; a and b are the same vector, c is at right angles to both.

    Diversity .5, after a: b is worth .5 x .8 - .5 x 1 = -.1 and c .5 x .7 - .5 x 0 = .35, so c comes second. Diversity .05: b is
    worth .95 x .8 - .05 x 1 = .71 and c .95 x .7 = .665, so b does.
    """
    matrix = Matrix(["a", "b", "c"], np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32))
    hits = [Hit(Item(item_id, "t"), score) for item_id, score in (("a", 0.9), ("b", 0.8), ("c", 0.7))]
    for diversity, expected in ((0.5, "acb"), (0.05, "abc"), (1.0, "acb"), (0.0, "abc")):
        assert "".join(hit.item.item_id for hit in diversify(hits, matrix, diversity)) == expected
    assert diversify([], matrix, 0.5) == []


async def test_diverse_pages_agree_with_one_long_list_and_lose_nothing(open_bench: OpenBench) -> None:
    items = random_items(260)
    async with open_bench() as bench:
        await bench.decoder.items.store(items)
        query = RankQuery(random_text(1), 260, diversity=0.7)
        whole = await bench.decoder.rank(bench.versions[0], query)
        plain = await bench.decoder.rank(bench.versions[0], replace(query, diversity=0.0))
        assert sorted(ids(whole)) == sorted(ids(plain))
        assert ids(whole)[:1] == ids(plain)[:1]
        assert ids(whole)[:10] != ids(plain)[:10]
        assert ids(whole)[200:] == ids(plain)[200:]
        pages = [await bench.decoder.rank(bench.versions[0], replace(query, k=26, offset=at)) for at in range(0, 260, 26)]
        assert [item_id for page in pages for item_id in ids(page)] == ids(whole)
        assert [page.more for page in pages] == [True] * 9 + [False]


def test_a_token_is_bound_to_question_and_version_but_not_to_the_page() -> None:
    asked = decoder_pb2.RankRequest(text="love", decoder_version="v1", k=10, avoid=["ghosts"])
    token = next_token(asked, 10)
    again = decoder_pb2.RankRequest(text="love", decoder_version="v1", k=20, avoid=["ghosts"], page_token=token)
    assert read_token(again) == 10
    assert next_token(again, 30) == next_token(asked, 30)
    assert next_token(asked, 10_000) == ""
    for field, value in (
        ("text", "war"),
        ("decoder_version", "v2"),
        ("avoid", []),
        ("page_token", "MTAgeA=="),
        ("page_token", "?"),
    ):
        other = decoder_pb2.RankRequest()
        other.CopyFrom(again)
        other.ClearField(field)  # type: ignore[arg-type]  # names of fields, as strings
        if isinstance(value, str):
            setattr(other, field, value)
        with pytest.raises(InvalidArgument) as caught:
            read_token(other)
        assert caught.value.field == "page_token"
    filtered = decoder_pb2.RankRequest()
    filtered.CopyFrom(again)
    filtered.filter.none.append(common_pb2.ItemCondition(field="price"))
    with pytest.raises(InvalidArgument):
        read_token(filtered)


async def test_a_contribution_is_what_the_similarity_loses_without_the_sentence(
    open_bench: OpenBench, embedder: Embedder
) -> None:
    items = random_items(20)
    text = "They like dragons. Space is fine! No old trains."
    parts = sentences(text)
    assert len(parts) == 3
    without = [" ".join(parts[:at] + parts[at + 1 :]) for at in range(3)]
    async with open_bench() as bench:
        await bench.decoder.items.store(items)
        found = await bench.decoder.explain(bench.versions[0], text, ["i0003", "i0011"])
        assert (found.sentences, found.truncated) == (parts, False)
        for each, at in zip(found.explanations, (3, 11), strict=True):
            vector = embedder.embed([item_text(items[at])])[0]
            whole = float(embedder.embed([text])[0] @ vector)
            assert each.score == pytest.approx(whole, abs=1e-5)
            expected = [whole - float(embedder.embed([rest])[0] @ vector) for rest in without]
            np.testing.assert_allclose(each.contributions, expected, atol=1e-5)
        (single,) = (await bench.decoder.explain(bench.versions[0], "love", ["i0003"])).explanations
        assert single.contributions == [pytest.approx(single.score)]
        with pytest.raises(NotFound, match="nobody"):
            await bench.decoder.explain(bench.versions[0], "love", ["nobody"])


async def test_a_long_text_is_read_in_part_or_refused_as_the_settings_say(open_bench: OpenBench) -> None:
    """The model reads 64 tokens; "war " * 100 has 102 with [CLS] and [SEP]."""
    async with open_bench() as bench:
        await bench.decoder.items.store(random_items(5))
        ranking = await bench.decoder.rank(bench.versions[0], RankQuery("war " * 100, 3))
        assert ranking.truncated
        assert ranking.coverage == pytest.approx(64 / 102)
    async with open_bench(embedder_over_length="drop") as bench:
        with pytest.raises(InvalidArgument, match="63% of its tokens"):
            await bench.decoder.rank(bench.versions[0], RankQuery("war " * 100, 3))
        assert (await bench.decoder.rank(bench.versions[0], RankQuery("war", 3))).coverage == 1.0
