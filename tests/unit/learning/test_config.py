"""The configuration: what it refuses and by which name, the presets, and the order of things that follows from it."""

from __future__ import annotations

import pytest

from langptune.errors import InvalidArgument
from services.trainer.learning.config import LearningConfig
from services.trainer.learning.presets import PRESETS, preset
from services.trainer.learning.schedule import Step, batch_positions, generation_seed, linear_decay, plan


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"rlso": {"samples": 1}}, "rlso.samples"),
        ({"rlso": {"eta": 0}}, "rlso.eta"),
        ({"rlso": {"gamma": float("nan")}}, "rlso.gamma"),
        ({"rlso": {"learning_rate": "fast"}}, "rlso.learning_rate"),
        ({"rlso": {"unknown": 1}}, "rlso.unknown"),
        ({"rlso": {"trainable": "some"}}, "rlso.trainable"),
        ({"contrastive": {"temperature": -1}}, "contrastive.temperature"),
        ({"outer_iterations": -1}, "outer_iterations"),
        ({"seed": -1}, "seed"),
        ({"profile_source": "history"}, "learning"),  # with RLSO batches, which have nothing to train then
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        LearningConfig.parse(values)
    assert refused.value.field == field


def test_presets_hold_appendix_b() -> None:
    gemma, llama = preset("paper/gemma-2b-it"), preset("paper/llama-3-8b-it")
    assert (gemma.rlso.learning_rate, gemma.rlso.gamma, gemma.rlso.batches) == (1e-7, 0.2, 200)
    assert (gemma.rlso.trainable, gemma.rlso.lora_rank, gemma.rlso.lora_alpha) == ("lora", 1024, 2048)
    assert (llama.rlso.learning_rate, llama.rlso.gamma, llama.rlso.batches) == (3e-7, 0.0, 500)
    assert (llama.rlso.trainable, llama.rlso.last_k, llama.contrastive.batches) == ("last_k", 4, 2500)
    for name in PRESETS:
        assert preset(name).rlso.epochs == 4


def test_overrides_merge_into_a_preset() -> None:
    config = preset("sample", {"seed": 7, "rlso": {"batches": 3}})
    assert (config.seed, config.rlso.batches, config.rlso.samples) == (7, 3, preset("sample").rlso.samples)
    with pytest.raises(InvalidArgument) as refused:
        preset("sampel")
    assert refused.value.field == "preset"


def test_the_plan_is_algorithm_1() -> None:
    """K = 2, J = 2, T = 1 and one CL batch at the end."""
    config = LearningConfig.parse(
        {"outer_iterations": 2, "contrastive": {"batches": 2, "final_batches": 1}, "rlso": {"batches": 1}},
    )
    assert plan(config) == [
        Step("cl", 0, 0),
        Step("cl", 0, 1),
        Step("rlso", 0, 0),
        Step("cl", 1, 2),
        Step("cl", 1, 3),
        Step("rlso", 1, 1),
        Step("cl", 1, 4),
    ]
    assert plan(LearningConfig.parse({"outer_iterations": 0})) == []


def test_every_pass_is_a_fresh_shuffle_of_all_examples() -> None:
    """Batches of 4 over 10 examples: the first 20 positions are two permutations, and another seed has another order."""
    flat = [at for number in range(5) for at in batch_positions(3, "cl", number, 4, 10)]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]
    assert batch_positions(4, "cl", 0, 4, 10) != flat[:4] or batch_positions(4, "cl", 1, 4, 10) != flat[4:8]
    assert sorted(set(batch_positions(0, "rlso", 0, 7, 3))) == [0, 1, 2]  # a batch larger than the data


def test_generation_seeds_differ_and_fit() -> None:
    seeds = {generation_seed(seed, Step(phase, 0, n)) for seed in range(3) for phase in ("cl", "rlso") for n in range(50)}
    assert len(seeds) == 300
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_linear_decay() -> None:
    assert [linear_decay(1.0, done, 4) for done in range(4)] == [1.0, 0.75, 0.5, 0.25]
