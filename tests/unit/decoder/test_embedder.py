"""The embedder, its planning by length, and the worker and cache around it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from langptune.domain import Interaction, Item
from langptune.errors import FailedPrecondition
from langptune.text import history_text
from services.decoder.embedder import Embedder
from services.decoder.queries import QueryEmbedder
from services.decoder.settings import DecoderSettings
from services.decoder.worker import EmbeddingWorker
from tests.support.micro_embedder import make_micro_embedder
from tests.unit.decoder.conftest import Models

TEXTS = ["space robot", "love " * 30, "", "quiet island in winter", "war " * 100, "ghost"]


@pytest.fixture
def embedder(models: Models, settings: DecoderSettings) -> Embedder:
    return Embedder.load(str(models.first), settings)


def test_vectors_are_those_of_the_model_normalised(embedder: Embedder, models: Models) -> None:
    expected = SentenceTransformer(str(models.first), device="cpu").encode(TEXTS, normalize_embeddings=True)
    vectors = embedder.embed(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (6, embedder.dimensions)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_a_text_over_the_limit_is_reported_and_its_end_not_read(embedder: Embedder) -> None:
    """ "war " * 100 has 102 tokens with [CLS] and [SEP]; the model reads 64; "war " * 62 has exactly 64."""
    (batch,) = embedder.plan(["war " * 100])
    assert batch.coverage == [64 / 102]
    (batch,) = embedder.plan(["war " * 62])
    assert batch.coverage == [1.0]
    np.testing.assert_array_equal(embedder.embed(["war " * 100 + "love"]), embedder.embed(["war " * 100]))


def test_the_setting_lowers_the_limit_of_the_model(models: Models, settings: DecoderSettings) -> None:
    short = Embedder.load(str(models.first), settings.model_copy(update={"embedder_max_tokens": 8}))
    assert [batch.coverage for batch in short.plan(["war " * 6, "war " * 7])] == [[8 / 9, 1.0]]
    np.testing.assert_allclose(short.embed(["war " * 7]), short.embed(["war " * 6]), atol=1e-6)
    assert short.recipe != Embedder.load(str(models.first), settings).recipe


def test_batches_hold_texts_of_like_length_within_the_budget(models: Models, settings: DecoderSettings) -> None:
    """Lengths with [CLS] and [SEP]: 12, 3, 7, 3, 4. A budget of 14 padded tokens takes 12 | 7 + 4 (2 x 7) | 3 + 3."""
    embedder = Embedder.load(str(models.first), settings.model_copy(update={"embed_batch_tokens": 14}))
    plan = embedder.plan(["war " * 10, "war", "war " * 5, "love", "war " * 2])
    assert [sorted(batch.positions) for batch in plan] == [[0], [2, 4], [1, 3]]
    assert embedder.plan([]) == []


def test_the_pooling_is_the_models_own(tmp_path: Path, settings: DecoderSettings) -> None:
    """As for mxbai-embed-large-v1: the last hidden state of the first token, [CLS], scaled to length 1."""
    folder = make_micro_embedder(tmp_path / "cls", pooling="cls")
    model = SentenceTransformer(str(folder), device="cpu")
    tokens = model.tokenizer(["space robot"], return_tensors="pt")
    with torch.inference_mode():
        first = model[0].model(**tokens).last_hidden_state[0, 0].numpy()
    vector = Embedder.load(str(folder), settings).embed(["space robot"])[0]
    np.testing.assert_allclose(vector, first / np.linalg.norm(first), atol=1e-6)


def test_the_models_query_prompt_is_a_switch_and_stands_before_queries_only(
    tmp_path: Path, models: Models, settings: DecoderSettings
) -> None:
    """With [CLS] and [SEP], "space" has 3 tokens and "story about space" has 5."""
    folder = str(make_micro_embedder(tmp_path / "prompted", query_prompt="story about "))
    wanted = settings.model_copy(update={"embedder_query_prompt": True})
    plain, prompted = Embedder.load(folder, settings), Embedder.load(folder, wanted)
    expected = plain.embed(["story about space"])
    np.testing.assert_allclose(prompted.embed(["space"], queries=True), expected, atol=1e-6)
    np.testing.assert_array_equal(prompted.embed(["space"]), plain.embed(["space"], queries=True))
    assert prompted.recipe == plain.recipe
    assert (prompted.count_tokens(["space"], queries=True), prompted.count_tokens(["space"])) == ([5], [3])
    with pytest.raises(FailedPrecondition, match="no query prompt"):
        Embedder.load(str(models.first), wanted)


def test_vectors_can_be_cut_to_their_first_dimensions(embedder: Embedder, models: Models, settings: DecoderSettings) -> None:
    short = Embedder.load(str(models.first), settings.model_copy(update={"embedder_dimensions": 8}))
    cut = embedder.embed(TEXTS)[:, :8]
    assert short.dimensions == 8
    np.testing.assert_allclose(short.embed(TEXTS), cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-6)
    assert short.recipe != embedder.recipe


def test_a_model_of_static_word_vectors_serves_as_well(tmp_path: Path, settings: DecoderSettings) -> None:
    """No transformer, no length limit, another kind of tokenizer: the vector is the mean of the words' vectors."""
    words = Tokenizer(WordLevel({"[UNK]": 0, "space": 1, "robot": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    table = np.array([[0, 0, 1], [3, 0, 0], [0, 4, 0]], dtype=np.float32)
    SentenceTransformer(modules=[StaticEmbedding(words, embedding_weights=table)], device="cpu").save(str(tmp_path / "static"))
    static = Embedder.load(str(tmp_path / "static"), settings)
    np.testing.assert_allclose(static.embed(["space robot", "space"]), [[0.6, 0.8, 0], [1, 0, 0]], atol=1e-6)
    assert [batch.coverage for batch in static.plan(["space " * 1_000])] == [[1.0]]


def test_a_folder_without_a_model_is_a_sentence(tmp_path: Path, settings: DecoderSettings) -> None:
    with pytest.raises(FailedPrecondition, match="does not exist"):
        Embedder.load(str(tmp_path / "nowhere"), settings)
    with pytest.raises(FailedPrecondition, match=r"no config\.json"):
        Embedder.load(str(tmp_path), settings)
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        Embedder.load(str(tmp_path), settings)


def test_a_model_of_nans_is_refused(models: Models, settings: DecoderSettings) -> None:
    model = SentenceTransformer(str(models.first), device="cpu")
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(FailedPrecondition, match="not numbers"):
        Embedder(model, max_tokens=64, batch_tokens=64).embed(["war"])


class CountingEmbedder(Embedder):
    """Notes the batches that it is given."""

    def __init__(self, model: SentenceTransformer, batch_tokens: int = 4_096) -> None:
        super().__init__(model, max_tokens=64, batch_tokens=batch_tokens)
        self.batches: list[list[str]] = []

    def embed(self, texts: Sequence[str], *, queries: bool = False) -> NDArray[np.float32]:
        self.batches.append(list(texts))
        return super().embed(texts, queries=queries)


@pytest.fixture
def counting(models: Models) -> CountingEmbedder:
    return CountingEmbedder(SentenceTransformer(str(models.first), device="cpu"))


async def test_the_worker_answers_in_order_and_embeds_equal_texts_once(counting: CountingEmbedder) -> None:
    worker = EmbeddingWorker(counting)
    told: list[int] = []
    results = await worker.embed([*TEXTS, *TEXTS], told.append)
    worker.close()
    assert sum(map(len, counting.batches)) == len(TEXTS) == sum(told)
    np.testing.assert_allclose(np.array([result.vector for result in results[:6]]), counting.embed(TEXTS), atol=1e-6)
    assert all(np.array_equal(a.vector, b.vector) for a, b in zip(results[:6], results[6:], strict=True))
    assert [result.truncated for result in results[:6]] == [False, False, False, False, True, False]


async def test_copies_share_the_batches_of_a_long_request(models: Models, counting: CountingEmbedder) -> None:
    """Each takes what comes next; every text is embedded once, in the batch that one embedder would make."""
    texts = [f"robot {word} {number}" for number in range(20) for word in ("war", "love")]
    pair = [CountingEmbedder(SentenceTransformer(str(models.first), device="cpu"), 64) for _ in range(2)]
    worker = EmbeddingWorker(*pair)
    results = await worker.embed([*texts, *texts])
    worker.close()
    assert all(embedder.batches for embedder in pair)
    planned = [[texts[at] for at in batch.positions] for batch in pair[0].plan(texts)]
    assert sorted(pair[0].batches + pair[1].batches) == sorted(planned)
    np.testing.assert_allclose(np.array([result.vector for result in results[:40]]), counting.embed(texts), atol=1e-6)
    assert all(np.array_equal(a.vector, b.vector) for a, b in zip(results[:40], results[40:], strict=True))


async def test_queries_that_come_together_share_a_batch_and_are_cached(counting: CountingEmbedder) -> None:
    worker = EmbeddingWorker(counting)
    queries = QueryEmbedder(worker, cache_size=10)
    await asyncio.gather(*(queries.one(f"robot {word}") for word in ("war", "love", "war", "ghost", "love")))
    assert [len(batch) for batch in counting.batches] == [3]
    await queries.one("robot war")
    await queries.many(["robot love", "robot ghost", "moon"])
    assert counting.batches[1:] == [["moon"]]
    worker.close()


async def test_the_cache_forgets_what_was_used_longest_ago(counting: CountingEmbedder) -> None:
    worker = EmbeddingWorker(counting)
    queries = QueryEmbedder(worker, cache_size=2)
    for text in ("war", "love", "war", "moon", "war", "love"):
        await queries.one(text)
    assert counting.batches == [["war"], ["love"], ["moon"], ["love"]]
    worker.close()


async def test_a_failing_embedder_fails_the_queries_that_waited_and_no_others(counting: CountingEmbedder) -> None:
    worker = EmbeddingWorker(counting)
    queries = QueryEmbedder(worker, cache_size=2)
    healthy, counting._model = counting._model, None  # type: ignore[assignment]  # a model that is gone
    answers = await asyncio.gather(queries.one("war"), queries.one("love"), return_exceptions=True)
    assert all(isinstance(answer, AttributeError) for answer in answers)
    counting._model = healthy
    assert (await queries.one("war")).vector.shape == (16,)
    worker.close()


async def test_what_the_cache_did_is_counted(counting: CountingEmbedder) -> None:
    """war, love miss and share a round; war hits; moon misses and is a round of its own; many texts at once are not kept."""
    worker = EmbeddingWorker(counting)
    queries = QueryEmbedder(worker, cache_size=10)
    await asyncio.gather(queries.one("war"), queries.one("love"))
    await queries.many(["war", "moon"])
    counts = queries.counts
    assert (counts.hits, counts.misses, counts.embedded, counts.batches, len(queries)) == (1, 3, 3, 2, 3)
    await queries.many([f"robot {number}" for number in range(65)])
    assert (counts.misses, counts.embedded, len(queries)) == (68, 68, 3)
    worker.close()


async def test_of_a_long_history_the_newest_entries_survive(counting: CountingEmbedder) -> None:
    """The model reads 64 tokens; an entry of these has about 39: the newest alone is read."""
    worker = EmbeddingWorker(counting)
    queries = QueryEmbedder(worker, cache_size=10)
    history = [Interaction(Item(f"i{at}", "space"), 5.0, word) for at, word in enumerate(("war", "love", "ghost", "moon"))]
    embedded = await queries.history(history)
    newest = history_text(history[-1:])
    (tokens,), (whole,) = counting.count_tokens([newest]), counting.count_tokens([history_text(history)])
    assert tokens <= 64 < counting.count_tokens([history_text(history[-2:])])[0]
    np.testing.assert_allclose(embedded.vector, counting.embed([newest])[0], atol=1e-6)
    assert embedded.coverage == pytest.approx(tokens / whole)
    before = len(counting.batches)
    assert np.array_equal((await queries.history(history)).vector, embedded.vector)
    assert len(counting.batches) == before
    worker.close()


async def test_of_an_entry_that_does_not_fit_its_beginning_is_read(counting: CountingEmbedder) -> None:
    worker = EmbeddingWorker(counting)
    history = [Interaction(Item("i", "space"), 5.0, "war " * 100)]
    embedded = await QueryEmbedder(worker, cache_size=1).history(history)
    assert embedded.truncated
    np.testing.assert_allclose(embedded.vector, counting.embed([history_text(history)])[0], atol=1e-6)
    worker.close()
