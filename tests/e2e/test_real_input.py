"""A true Amazon category and a real embedder through the real services; skipped where either is not on this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.real_input import CORPORA, CUTOFF, data_folder, local_system, measure, minilm_folder, prepare_corpus, train
from langptune.client import LangPTune, NewInteraction, RankingBasis, Release
from langptune.data.dataset import Dataset
from langptune.domain import Session
from langptune.errors import NotFound
from langptune.evaluate import compare, random_scores
from langptune.local import LocalSystem

NAME = "amazon-gift-cards"
USERS = 60


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    if not (data_folder() / NAME).is_dir():
        pytest.skip(f"the real data folder {data_folder() / NAME} is not here; set LANGPTUNE_REAL_DATA")
    try:
        minilm_folder()
    except NotFound as error:
        pytest.skip(error.message)
    return prepare_corpus(data_folder(), NAME, CORPORA[NAME].options, tmp_path / NAME).dataset


@pytest.mark.timeout(600)  # about 40 CPU seconds, which a busy machine stretches
def test_raw_histories_rank_real_items_and_a_job_trains_on_them(dataset: Dataset, tmp_path: Path) -> None:
    asyncio.run(_story(dataset, tmp_path / "system"))


async def _story(dataset: Dataset, home: Path) -> None:
    sessions = dataset.sessions("test")[:USERS]
    async with local_system(home) as system, LangPTune(system.gateway_address) as client:
        imported = await client.import_items(dataset.items.values())
        assert (imported.rejected, imported.catalogue_size) == (0, len(dataset.items))
        await _beats_random(system, await client.get_live_release(), dataset, sessions)
        await _serves(client, sessions[0])

        release = await train(client, dataset, batches=2, batch_size=4, rate=2e-5, validation_users=4)
        assert release.decoder_version != (await client.get_live_release()).decoder_version
        assert release.validation is not None
        assert release.validation.users == 4


async def _beats_random(system: LocalSystem, release: Release, dataset: Dataset, sessions: list[Session]) -> None:
    measured = await measure(system, release, sessions)
    assert measured.catalogue_size == len(dataset.items)
    ndcg = compare(random_scores(dataset, sessions, CUTOFF), measured.scores)["ndcg"]
    assert ndcg.p_value < 0.05
    assert ndcg.ratio > 1.5


async def _serves(client: LangPTune, session: Session) -> None:
    seen = [entry.item.item_id for entry in session.history]
    entries = [NewInteraction(entry.item.item_id, entry.rating, entry.review, entry.time_ms) for entry in session.history]
    await client.record_interactions(session.user_id, entries)
    recommendation = await client.recommend(session.user_id, k=10)
    assert recommendation.basis == RankingBasis.HISTORY
    assert len(recommendation.items) == 10
    assert not {place.item.item_id for place in recommendation.items} & set(seen)
