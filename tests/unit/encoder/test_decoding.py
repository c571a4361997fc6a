"""The sampling loop against plain computations with the same model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PretrainedConfig,
)

from services.encoder.engines.attention import prepare
from services.encoder.engines.decoding import Batch, Sample, Task, draw
from services.encoder.engines.noise import row_keys, uniforms

PROMPTS = ([1, 9, 30, 77, 5], [1, 200, 3], [1, 40, 41, 42, 43, 44, 45, 46], [1, 100])
SMALL = {
    "vocab_size": 261,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.4,
}
NO_STOP = (10_000,)
MANY_STOPS = tuple(range(2, 40))


def tasks(samples: int = 1, length: int = 12, temperature: float = 1.0, seed: int = 3) -> list[Task]:
    return [Task(prompt, samples, length, temperature, seed, stream) for stream, prompt in enumerate(PROMPTS)]


def finish(batch: Batch) -> None:
    while batch.rows:
        batch.step()


def run(model: LlamaForCausalLM, wanted: Sequence[Task], stops: Sequence[int] = NO_STOP) -> list[list[Sample]]:
    """All tasks from the first pass on."""
    batch = Batch(model, frozenset(stops))
    drafts = [batch.join(task) for task in wanted]
    finish(batch)
    return [draft.samples for draft in drafts]


def teacher_forced(model: LlamaForCausalLM, prompt: Sequence[int], response: Sequence[int]) -> torch.Tensor:
    """ln pi of each token of `response`, by one plain pass over the whole. [length]"""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0].float()
    log_probs = logits[len(prompt) - 1 : -1].log_softmax(dim=1)
    return log_probs.gather(1, torch.tensor(response)[:, None]).squeeze(1)


def test_greedy_text_is_what_the_library_generates(model: LlamaForCausalLM) -> None:
    found = run(model, tasks(temperature=0.0, length=20), [2])
    for prompt, (sample,) in zip(PROMPTS, found, strict=True):
        ids = torch.tensor([prompt])
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20)[0, len(prompt) :]
        assert list(sample.token_ids) == expected.tolist()


@pytest.mark.parametrize("samples", [1, 3])
def test_log_probs_equal_teacher_forcing(model: LlamaForCausalLM, samples: int) -> None:
    """Also past the growth of the cache (100 tokens) and after rows have left the batch."""
    found = run(model, tasks(samples, length=100), range(2, 8))
    for prompt, group in zip(PROMPTS, found, strict=True):
        for sample in group:
            expected = teacher_forced(model, prompt, sample.token_ids)
            torch.testing.assert_close(torch.tensor(sample.log_probs), expected, atol=1e-4, rtol=1e-4)


def test_log_probs_are_those_at_temperature_one_whatever_the_temperature(model: LlamaForCausalLM) -> None:
    (sample,) = run(model, [Task(PROMPTS[0], 1, 10, 0.5, 1)])[0]
    torch.testing.assert_close(
        torch.tensor(sample.log_probs), teacher_forced(model, PROMPTS[0], sample.token_ids), atol=1e-4, rtol=1e-4
    )


def test_a_row_is_the_same_to_the_last_bit_whatever_else_is_in_the_batch(model: LlamaForCausalLM) -> None:
    """Tokens and log-probs; alone, with others from the start, and joined by others while it runs (64 columns are passed)."""
    wanted = Task(PROMPTS[2], 2, 90, 1.0, 3, 7)
    (alone,) = run(model, [wanted], MANY_STOPS)
    for others in ([], tasks(samples=3, length=40), tasks(samples=9, length=100)):
        batch = Batch(model, frozenset(MANY_STOPS))
        for other in others[:2]:
            batch.join(other)
        for _ in range(5 * bool(others)):
            batch.step()
        draft = batch.join(wanted)
        for other in others[2:]:
            batch.step()
            batch.join(other)
        finish(batch)
        assert draft.samples == alone


def test_seeds_samples_and_prompts_draw_different_numbers(model: LlamaForCausalLM) -> None:
    same_prompt = [Task(PROMPTS[0], 4, 20, 1.0, seed, stream) for seed, stream in ((1, 0), (1, 1), (2, 0))]
    texts = [tuple(sample.token_ids) for group in run(model, same_prompt) for sample in group]
    assert len(set(texts)) == 12


def test_forked_caches_equal_separate_prompts(model: LlamaForCausalLM) -> None:
    """Sample g of a forked prompt is what a prompt of its own with the same random numbers gives."""
    (forked,) = run(model, [Task(PROMPTS[2], 2, 15, 1.0, 9)])
    (wider,) = run(model, [Task(PROMPTS[2], 5, 15, 1.0, 9)])
    assert [sample.token_ids for sample in wider[:2]] == [sample.token_ids for sample in forked]
    for sample in wider:
        torch.testing.assert_close(
            torch.tensor(sample.log_probs), teacher_forced(model, PROMPTS[2], sample.token_ids), atol=1e-4, rtol=1e-4
        )


def test_a_text_ends_with_a_stop_token_or_at_its_own_limit(model: LlamaForCausalLM) -> None:
    mixed = [Task(prompt, 6, limit, 1.0, 5, at) for at, (prompt, limit) in enumerate(zip(PROMPTS, (1, 7, 25, 60), strict=True))]
    seen: Counter[str] = Counter()
    for task, group in zip(mixed, run(model, mixed, MANY_STOPS), strict=True):
        for sample in group:
            seen[sample.finish_reason] += 1
            *before, last = sample.token_ids
            assert not set(before) & set(MANY_STOPS)
            assert len(sample.token_ids) == len(sample.log_probs) <= task.max_new_tokens
            assert (last in MANY_STOPS) == (sample.finish_reason == "stop")
            assert sample.finish_reason == "stop" or len(sample.token_ids) == task.max_new_tokens
    assert seen["stop"] > 0
    assert seen["length"] > 0


def test_a_task_that_leaves_frees_its_rows_at_once_and_the_others_go_on(model: LlamaForCausalLM) -> None:
    expected = run(model, tasks(samples=2, length=12))
    batch = Batch(model, frozenset(NO_STOP))
    drafts = [batch.join(task) for task in tasks(samples=2, length=12)]
    for _ in range(3):
        batch.step()
    batch.leave(drafts[1])
    assert batch.rows == 6
    assert [len(sample.token_ids) for sample in drafts[1].samples] == [4, 4]
    finish(batch)
    assert not drafts[1].finished
    assert [drafts[at].samples for at in (0, 2, 3)] == [expected[at] for at in (0, 2, 3)]


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(num_key_value_heads=1, **SMALL),
        MistralConfig(num_key_value_heads=2, sliding_window=10, **SMALL),
        Gemma2Config(num_key_value_heads=2, sliding_window=10, head_dim=8, query_pre_attn_scalar=8, **SMALL),
        Gemma3TextConfig(num_key_value_heads=2, sliding_window=10, head_dim=8, query_pre_attn_scalar=8, **SMALL),
    ],
    ids=lambda config: config.model_type,
)
def test_other_architectures_equal_teacher_forcing(config: PretrainedConfig) -> None:
    """Also past a sliding window of 10 positions."""
    torch.manual_seed(0)
    other = AutoModelForCausalLM.from_config(config).eval()
    prepare(other)
    for prompt, group in zip(PROMPTS, run(other, tasks(samples=2, length=30)), strict=True):
        for sample in group:
            expected = teacher_forced(other, prompt, sample.token_ids)
            torch.testing.assert_close(torch.tensor(sample.log_probs), expected, atol=1e-4, rtol=1e-4)


def test_draw_inverts_the_cumulative_distribution() -> None:
    """Probabilities 0.2, 0, 0.5, 0.3: the cumulative sums are 0.2, 0.2, 0.7, 1.0."""
    logits = torch.tensor([0.2, 0.0, 0.5, 0.3]).log().repeat(6, 1)
    noise = torch.tensor([1e-7, 0.19, 0.21, 0.69, 0.71, 1.0])
    chosen, log_probs = draw(logits, torch.ones(6), noise)
    assert chosen.tolist() == [0, 0, 2, 2, 3, 3]
    assert log_probs.tolist() == pytest.approx([math.log(p) for p in (0.2, 0.2, 0.5, 0.5, 0.3, 0.3)])


def test_draw_at_other_temperatures() -> None:
    """At 0.5 the weights are squared: 0.04, 0.25, 0.09 of 0.38 in all; 0.04 / 0.38 is 0.105. At 0 the largest wins."""
    logits = torch.tensor([0.2, 0.5, 0.3]).log().repeat(3, 1)
    chosen, log_probs = draw(logits, torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.10, 0.11, 0.99]))
    assert chosen.tolist() == [0, 1, 1]
    assert log_probs.tolist() == pytest.approx([math.log(0.2), math.log(0.5), math.log(0.5)])


def test_uniforms_are_uniform_and_do_not_depend_on_how_they_are_drawn() -> None:
    keys = row_keys(2**64 - 1, 7, 200)
    numbers = np.stack([uniforms(keys, np.full(200, position, dtype=np.uint64)) for position in range(100)])
    assert numbers.min() > 0
    assert numbers.max() <= 1
    assert numbers.mean() == pytest.approx(0.5, abs=0.01)  # standard error of 20,000 numbers: 0.002
    assert numbers.var() == pytest.approx(1 / 12, abs=0.005)
    assert uniforms(keys[5:7], np.array([40, 3], dtype=np.uint64)).tolist() == [numbers[40, 5], numbers[3, 6]]
