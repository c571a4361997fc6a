"""LangPTune and NoProfile as systems: what they rank by, what they leave in the result folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from experiments.data import Split, split_of
from experiments.in_process import ModelNames
from experiments.systems import SYSTEMS, Context, entry
from experiments.systems.language import TEXTS, TRAINING, LanguageSystem, config_of
from experiments.worlds import SAMPLE_EMBEDDER, SAMPLE_ENCODER
from langptune.text import item_text
from samples.dataset import make_dataset
from services.trainer.learning.embedder import Embedder

MODELS = ModelNames(SAMPLE_ENCODER, SAMPLE_EMBEDDER)
SMALL = {
    "outer_iterations": 1,
    "contrastive": {"batches": 1, "final_batches": 0, "batch_size": 4, "catalogue_negatives": 4},
    "rlso": {"batches": 1, "histories": 2, "samples": 3, "epochs": 1},
}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return split_of(make_dataset(tmp_path_factory.mktemp("data") / "world", items=60, users=40, seed=2), test_users=6)


def _system(name: str, **values: Any) -> LanguageSystem:
    system = entry(name).make({**entry(name).full[0], **values}, Context(4, MODELS))
    assert isinstance(system, LanguageSystem)
    return system


def test_noprofile_ranks_by_the_cosine_of_history_and_item(split: Split) -> None:
    """Held against the embedder itself; nothing is sampled, so one score a user."""
    system = _system("noprofile-0")
    system.fit(split.training)
    found = system.scores(split.test)
    embedder = Embedder.load(SAMPLE_EMBEDDER)
    texts = [embedder.text_of(session.history) for session in split.test]
    items = [item_text(item) for item in split.training.items.values()]
    expected = embedder.embed(texts).detach() @ embedder.embed(items).detach().T
    assert found.shape == (6, 1, 60)
    np.testing.assert_allclose(found[:, 0], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_profiles_of_a_seed_are_the_same_whatever_was_asked_before(split: Split) -> None:
    """Three profiles a user by default; asking for others in between changes nothing."""
    system = _system("langptune-0")
    system.fit(split.training)
    first = system.scores(split.test)
    system.scores(split.training.validation)
    assert first.shape == (6, 3, 60)
    np.testing.assert_array_equal(first, system.scores(split.test))


def test_a_trained_system_leaves_texts_curve_and_weights(split: Split, tmp_path: Path) -> None:
    """One batch of CL and one of RLSO: both models have moved and are saved; the zero-shot system saves neither."""
    system = _system("langptune", overrides=SMALL)
    system.fit(split.training)
    system.scores(split.test)
    system.save(tmp_path)
    texts = pq.read_table(tmp_path / TEXTS).to_pylist()
    assert [(row["user_id"], row["sample"]) for row in texts[:4]] == [(split.test[0].user_id, at) for at in range(3)] + [
        (split.test[1].user_id, 0)
    ]
    assert {row["split"] for row in texts} == {"test"}
    training = pq.read_table(tmp_path / TRAINING).to_pylist()
    assert [row["phase"] for row in training] == ["cl", "rlso"]
    assert training[1]["reward_mean"] > 0
    assert (tmp_path / "encoder" / "config.json").exists()
    again = Embedder.load(tmp_path / "embedder")
    own = system.trainee.embedder.embed(["They like war."]).detach().numpy()
    np.testing.assert_allclose(again.embed(["They like war."]).detach().numpy(), own, rtol=1e-4, atol=1e-6)

    untouched = tmp_path / "zero"
    untouched.mkdir()
    zero = _system("langptune-0")
    zero.fit(split.training)
    zero.scores(split.test)
    zero.save(untouched)
    assert [file.name for file in untouched.iterdir()] == [TEXTS]


@pytest.mark.parametrize(
    "name", [name for name, about in SYSTEMS.items() if about.kind in ("No Bottleneck", "Interpretable Profile")]
)
def test_every_variant_is_a_setting_of_one_loop(name: str) -> None:
    """What is trained follows from the name; the paper's values are those of Appendix B."""
    about = entry(name)
    for values in (*about.full, *about.quick, *about.pretrained, about.paper):
        config = config_of(values, seed=1)
        learns_text, learns_vectors = config.rlso_updates > 0, config.contrastive_updates > 0
        assert learns_text == (name in ("langptune-rlso", "langptune"))
        assert learns_vectors == (name in ("langptune-cl", "langptune", "noprofile-cl"))
        assert (config.profile_source == "history") == name.startswith("noprofile")
        assert config.seed == 1
    rates = [config_of(values).contrastive.learning_rate for values in about.pretrained]
    assert rates == ([2e-5, 1e-4] if learns_vectors else [2e-5])
    paper = config_of(about.paper, seed=1)
    if learns_vectors:
        assert (paper.outer_iterations, paper.contrastive.batches, paper.contrastive.batch_size) == (5, 800, 256)
    if learns_text:
        assert (paper.outer_iterations, paper.rlso.batches, paper.rlso.histories, paper.rlso.gamma) == (5, 200, 64, 0.2)
