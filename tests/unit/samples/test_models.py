"""The shipped models: they load by the ordinary doors, write true and readable profiles, and rank far above chance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from langptune.domain import Session
from langptune.text import item_text
from samples.dataset import world_sessions
from samples.evaluate import praised_profile, target_ranks
from samples.headroom import CUTOFF, ndcg
from samples.measure import measure_profiles
from samples.models import EMBEDDER, MODELS_FOLDER, WRITER, load_embedder, load_writer
from samples.world import Catalogue, attributes_of, make_catalogue
from samples.writer import MAX_NEW_TOKENS, chat_ids, sample_profiles

SEED = 7  # no world that anything was tuned on
TEST_USERS = 64


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue(seed=SEED)


@pytest.fixture(scope="module")
def sessions(catalogue: Catalogue) -> list[Session]:
    return world_sessions(catalogue, 4 * TEST_USERS, SEED)[-TEST_USERS:]


@pytest.fixture(scope="module")
def embedder() -> SentenceTransformer:
    return load_embedder()


def test_sampled_profiles_are_true_readable_and_end(sessions: list[Session]) -> None:
    writer, tokenizer = load_writer()
    histories = [session.history for session in sessions]
    profiles = sample_profiles(writer, tokenizer, histories, seed=0)
    quality = measure_profiles(list(zip(histories, profiles, strict=True)))
    assert quality.truth > 0.85 > 2 * quality.chance
    assert quality.likes_truth > 0.8
    assert quality.dislikes_truth > 0.65
    assert quality.repetition < 0.08
    assert quality.grammar > 0.95
    assert quality.stated > 2
    lengths = [len(tokenizer(profile)["input_ids"]) for profile in profiles]
    assert max(lengths) < MAX_NEW_TOKENS
    assert sample_profiles(writer, tokenizer, histories, seed=0) == profiles


def test_the_writer_is_set_up_for_rollouts_at_temperature_one(sessions: list[Session]) -> None:
    writer, tokenizer = load_writer()
    generation = writer.generation_config
    assert (generation.do_sample, generation.temperature, generation.top_k, generation.top_p) == (True, 1.0, 0, 1.0)
    assert generation.eos_token_id == writer.config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.padding_side == "left"
    assert chat_ids(tokenizer, sessions[0].history)[0] == tokenizer.bos_token_id


def test_the_embedder_ranks_what_a_profile_asks_for(
    catalogue: Catalogue, sessions: list[Session], embedder: SentenceTransformer
) -> None:
    ranks = target_ranks(embedder, catalogue.items, sessions, [praised_profile(session) for session in sessions])
    chance = ndcg(np.arange(1, len(catalogue.items) + 1), CUTOFF).mean()
    assert ndcg(ranks, CUTOFF).mean() > 8 * chance


def test_the_embedder_gives_unit_vectors_and_tells_likes_from_dislikes(
    catalogue: Catalogue, embedder: SentenceTransformer
) -> None:
    """Of two profiles that differ in one word, one lifts desert films and the other does not."""
    profiles = ["They like gritty moods. They like desert settings.", "They like gritty moods. They reject desert settings."]
    vectors = embedder.encode(profiles)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-5)
    films = embedder.encode([item_text(item) for item in catalogue.items[:300]])
    deserts = np.array(["desert" in attributes_of(item) for item in catalogue.items[:300]])
    gritty = np.array(["gritty" in attributes_of(item) for item in catalogue.items[:300]])
    liking, rejecting = vectors @ films.T
    assert liking[deserts].mean() - liking[~deserts].mean() > 0.2
    assert rejecting[deserts].mean() - rejecting[~deserts].mean() < 0.05
    assert rejecting[gritty].mean() - rejecting[~gritty].mean() > 0.2


def test_both_folders_are_small_and_say_how_they_were_made() -> None:
    files = [file for file in MODELS_FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 5_000_000
    for name in (WRITER, EMBEDDER):
        card = (MODELS_FOLDER / name / "README.md").read_text()
        assert "python -m samples models" in card
        assert json.loads((Path(MODELS_FOLDER) / name / "training.json").read_text())["cpu_seconds"] > 0
