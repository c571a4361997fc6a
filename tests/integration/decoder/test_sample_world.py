"""What `avoid` and `explain` are worth to a reader, measured on the sample world with the shipped embedder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel

from langptune.text import sentences
from langptune.weights import WeightsStore
from samples.lexicon import KIND_OF, plural
from samples.models import EMBEDDER, MODELS_FOLDER
from samples.teacher import THOROUGH, parse, write_profile
from samples.users import make_sessions, make_users
from samples.world import attributes_of, make_catalogue
from services.decoder.catalogue import Catalogue
from services.decoder.decoder import Decoder, Query
from services.decoder.index.edge import EdgeEngine
from services.decoder.ranking import RankQuery
from services.decoder.settings import DecoderSettings
from services.decoder.versions import VersionPool

FILMS = 600
USERS = 60


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Decoder, str]]:
    """A decoder with the shipped embedder, and the version of it."""
    settings = DecoderSettings(
        weights_uri=str(folder / "weights"),
        embedding_model=str(MODELS_FOLDER / EMBEDDER),
        decoder_data=str(folder / "data"),
        decoder_min_free_disk=0,
    )
    store = WeightsStore(settings.weights_uri, folder / "cache")
    engine = EdgeEngine(settings.decoder_data)
    catalogue = await Catalogue.load(await engine.open("catalogue", 0))
    decoder = Decoder(catalogue, VersionPool(settings, store, engine, catalogue))
    try:
        yield decoder, store.ensure_base("decoder", settings.embedding_model).version
    finally:
        await decoder.close()
        await engine.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the films imported and embedded."""
    folder = tmp_path_factory.mktemp("sample-world")
    torch.set_num_threads(1)

    async def fill() -> None:
        async with opened(folder) as (decoder, version), decoder.versions.use(version):
            await decoder.items.store(make_catalogue(FILMS, seed=7).items)

    asyncio.run(fill())
    return folder


@pytest.fixture(scope="module")
def profiles() -> list[str]:
    """A teacher's profile of each of 60 users who were never trained on."""
    sessions = make_sessions(make_catalogue(FILMS, seed=7), make_users(USERS, seed=7), seed=7)
    rng = np.random.default_rng(7)
    return [write_profile(session.history, rng, THOROUGH) for session in sessions]


async def test_what_is_avoided_leaves_the_top_ten(data: Path, profiles: list[str]) -> None:
    """Of each user's ten films one attribute is avoided: the genre (also a category), or any other (penalty alone).

    Shares of the ten that have it: before, after, and when the profile says "They dislike ..." instead.
    """
    rng = np.random.default_rng(0)
    shares: dict[bool, list[list[float]]] = {True: [], False: []}
    async with opened(data) as (decoder, version):
        for profile in profiles:
            before = await decoder.rank(version, RankQuery(profile))
            present = sorted({word for hit in before.hits for word in attributes_of(hit.item)})
            for is_genre in (True, False):
                word = str(rng.choice([word for word in present if (KIND_OF[word] == "genre") == is_genre]))
                after = await decoder.rank(version, RankQuery(profile, avoid=[word if is_genre else plural(word)]))
                told = await decoder.rank(version, RankQuery(f"{profile} They dislike {plural(word)}."))
                assert len(after.hits) == 10
                counts = [sum(word in attributes_of(hit.item) for hit in found.hits) for found in (before, after, told)]
                shares[is_genre].append([count / 10 for count in counts])
    genre, other = (np.mean(shares[is_genre], axis=0) for is_genre in (True, False))
    assert min(genre[0], other[0]) > 0.1, (genre, other)
    assert genre[1] == 0.0, genre
    assert other[1] < 0.01, other
    assert other[1] < other[2], other


async def test_the_named_sentence_is_the_one_that_the_place_hangs_on(data: Path, profiles: list[str]) -> None:
    """Removing the sentence that Explain names lowers the item more than removing any one of them at random does.

    Paired over users with two sentences or more; the place is log2(1 + rank), and the random sentence is taken in expectation.
    """
    rng = np.random.default_rng(1)
    named: list[float] = []
    at_random: list[float] = []
    async with opened(data) as (decoder, version):
        for profile in profiles:
            parts = sentences(profile)
            if len(parts) < 2:
                continue
            hits = (await decoder.rank(version, RankQuery(profile))).hits
            item_id = hits[int(rng.integers(len(hits)))].item.item_id
            (explanation,) = (await decoder.explain(version, profile, [item_id])).explanations
            texts = [profile, *(" ".join(parts[:at] + parts[at + 1 :]) for at in range(len(parts)))]
            results, _ = await decoder.rank_targets(version, [Query(text, [item_id]) for text in texts], None)
            places = np.log2([1 + result.ranks[0] for result in results])
            named.append(places[1 + int(np.argmax(explanation.contributions))] - places[0])
            at_random.append(float((places[1:] - places[0]).mean()))
    assert len(named) >= 40
    test = ttest_rel(named, at_random, alternative="greater")
    assert np.mean(named) > 1.5 * np.mean(at_random), (np.mean(named), np.mean(at_random))
    assert test.pvalue < 1e-6, test


async def test_interactions_that_a_sentence_is_about_are_told_from_the_others(data: Path, profiles: list[str]) -> None:
    """Nearness of half a deviation or more against the world's own truth: the film has an attribute that the sentence states.

    Teacher's profiles of 60 users against their own histories and, where hardly anything is true, against those of the next user.
    Sentences that state nothing are near to nothing. Dislikes count as what they are about.
    """
    histories = [session.history for session in make_sessions(make_catalogue(FILMS, seed=7), make_users(USERS, seed=7), seed=7)]
    told: list[bool] = []
    true: list[bool] = []
    async with opened(data) as (decoder, version):
        for at, profile in enumerate(profiles):
            texts = sentences(profile)
            for history in (histories[at], histories[(at + 1) % USERS]):
                near = await decoder.nearness(version, texts, history)
                for text, row in zip(texts, near, strict=True):
                    stated = {word for statement in parse(text) for word in statement.attributes}
                    true += [bool(stated & attributes_of(entry.item)) for entry in history]
                    told += (row >= 0.5).tolist()
    right = sum(a and b for a, b in zip(told, true, strict=True))
    assert len(true) > 1_000
    assert 0.2 < sum(true) / len(true) < 0.8, "both kinds are there"
    assert right / sum(told) > 0.9, (right, sum(told))
    assert right / sum(true) > 0.85, (right, sum(true))
