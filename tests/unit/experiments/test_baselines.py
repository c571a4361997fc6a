"""Baselines where their order is known: generated worlds, several seeds each; and their parts by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from experiments.data import Split
from experiments.in_process import ModelNames
from experiments.scoring import mean_ndcg
from experiments.systems import Context, Values, entry
from experiments.systems.bert import IGNORED, MASK, PAD, BertOptions, masked
from experiments.systems.graph import normalised
from experiments.worlds import SAMPLE_EMBEDDER
from tests.unit.experiments.worlds import low_rank_world, sequential_world

SEEDS = (0, 1, 2)
PATIENCE = {"epochs": 40, "every": 5, "looks": 3}
SMALL_BERT = {
    "hidden": 32,
    "blocks": 1,
    "rate": 3e-3,
    "batch_size": 32,
    "decay_step": 1_000,
    "patience": {"epochs": 60, "every": 5, "looks": 4},
}
VALUES: dict[str, Values] = {
    "nmf": {"components": 8},
    "lightgcn": {"rate": 1e-2, "dimension": 32, "patience": PATIENCE},
    "mcl": {"rate": 1e-2, "dimension": 32, "batch_size": 100, "patience": PATIENCE},
    "bert4rec": SMALL_BERT,
    "llm2bert4rec": SMALL_BERT,
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _ndcg(name: str, world: Split, seed: int) -> float:
    system = entry(name).make(VALUES.get(name, {}), Context(seed, ModelNames("", SAMPLE_EMBEDDER)))
    system.fit(world.training)
    return mean_ndcg(system, world.training, world.test, seed)


def _means(names: tuple[str, ...], worlds: list[Split]) -> dict[str, float]:
    return {name: float(np.mean([_ndcg(name, world, seed) for seed, world in zip(SEEDS, worlds, strict=True)])) for name in names}


def test_order_on_worlds_of_low_rank() -> None:
    """n = 3 worlds, 120 test users each: Random < Most Popular < NMF < LightGCN; MCL above Most Popular, too."""
    names = ("random", "most-popular", "nmf", "lightgcn", "mcl")
    found = _means(names, [low_rank_world(seed) for seed in SEEDS])
    assert found["random"] < found["most-popular"] < found["nmf"] < found["lightgcn"]
    assert found["mcl"] > 1.5 * found["most-popular"]


def test_order_where_few_items_have_most_of_the_interactions() -> None:
    """n = 3 worlds, 120 test users each: here the mixed-centric loss does better than LightGCN's own, as its authors find."""
    found = _means(("nmf", "most-popular", "lightgcn", "mcl"), [low_rank_world(seed, skew=3.0) for seed in SEEDS])
    assert found["nmf"] < found["most-popular"] < found["lightgcn"] < found["mcl"]


def test_order_on_sequential_worlds() -> None:
    """n = 2 worlds, 120 test users each: only who reads the order can know the next item. LLM2BERT4Rec on the second."""
    names = ("most-popular", "nmf", "lightgcn", "bert4rec")
    worlds = [sequential_world(seed) for seed in (0, 1)]
    found = {name: [_ndcg(name, world, seed) for seed, world in enumerate(worlds)] for name in names}
    for seed in (0, 1):
        others = max(found[name][seed] for name in names[:3])
        assert found["bert4rec"][seed] > 1.5 * others
    assert _ndcg("llm2bert4rec", worlds[1], 1) > 1.5 * others


def test_the_same_seed_gives_the_same_scores() -> None:
    """And leaves torch's own generator as it was."""
    world = low_rank_world(0)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    for name in ("nmf", "lightgcn", "mcl", "bert4rec"):
        brief = {**VALUES[name], **({} if name == "nmf" else {"patience": {"epochs": 2, "every": 1}})}
        found = []
        for _ in range(2):
            system = entry(name).make(brief, Context(3, ModelNames("", "")))
            system.fit(world.training)
            found.append(system.scores(world.test[:4]))
        assert found[0].shape == (4, 1, len(world.training.items))
        np.testing.assert_array_equal(found[0], found[1])
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_graph_is_normalised_by_the_degrees_of_both_ends() -> None:
    """User 0 has items 0 and 1, user 1 has item 1: 1/sqrt(2 x 1), 1/sqrt(2 x 2), 1/sqrt(1 x 2); symmetric; item 2 alone is 0."""
    found = normalised(sparse.csr_array(np.array([[1, 1, 0], [0, 1, 0]], dtype=np.float32))).toarray()
    expected = np.zeros((5, 5))
    expected[0, 2], expected[0, 3], expected[1, 3] = 2**-0.5, 0.5, 2**-0.5
    np.testing.assert_allclose(found, expected + expected.T, rtol=1e-6)


def test_masking_asks_at_least_one_real_place_and_gives_no_answer_away() -> None:
    """50 draws over rows of 1 to 5 items, PAD behind; where only the last is asked, it is the last real one."""
    rows = torch.tensor([[2, 3, 4, 5, 6], [7, 8, PAD, PAD, PAD], [9, PAD, PAD, PAD, PAD]])
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        questions, answers = masked(rows, BertOptions(mask_share=0.3, last_share=0.0), generator)
        asked = answers != IGNORED
        assert asked.any(dim=1).all()
        assert not asked[rows == PAD].any()
        assert (questions[asked] == MASK).all()
        assert torch.equal(answers[asked], rows[asked])
        assert torch.equal(questions[~asked], rows[~asked])
    _, answers = masked(rows, BertOptions(last_share=1.0), torch.Generator().manual_seed(0))
    assert (answers != IGNORED).nonzero().tolist() == [[0, 4], [1, 1], [2, 0]]
