"""The sampling loop against plain computations with the same model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import pytest
import torch
from transformers import LlamaForCausalLM

from services.encoder.engines.decoding import Sample, Task, decode, draw
from services.encoder.engines.noise import row_keys, uniforms

PROMPTS = ([1, 9, 30, 77, 5], [1, 200, 3], [1, 40, 41, 42, 43, 44, 45, 46], [1, 100])
NO_STOP = (10_000,)
MANY_STOPS = tuple(range(2, 40))


def tasks(samples: int = 1, length: int = 12, temperature: float = 1.0, seed: int = 3) -> list[Task]:
    return [Task(prompt, samples, length, temperature, seed, stream) for stream, prompt in enumerate(PROMPTS)]


def run(model: LlamaForCausalLM, wanted: Sequence[Task], stops: Sequence[int] = NO_STOP) -> list[list[Sample]]:
    found = dict(decode(model, stops, wanted))
    return [found[at] for at in range(len(wanted))]


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


def test_a_seed_fixes_a_row_whatever_shares_its_batch(model: LlamaForCausalLM) -> None:
    together = run(model, tasks(samples=3, length=30), MANY_STOPS)
    for stream, prompt in enumerate(PROMPTS):
        assert run(model, [Task(prompt, 3, 30, 1.0, 3, stream)], MANY_STOPS)[0][0].token_ids == together[stream][0].token_ids
        alone = run(model, [Task(prompt, 1, 30, 1.0, 3, stream)], MANY_STOPS)[0][0]
        assert alone.token_ids == together[stream][0].token_ids


def test_seeds_samples_and_prompts_draw_different_numbers(model: LlamaForCausalLM) -> None:
    same_prompt = [Task(PROMPTS[0], 4, 20, 1.0, seed, stream) for seed, stream in ((1, 0), (1, 1), (2, 0))]
    texts = [sample.token_ids for group in run(model, same_prompt) for sample in group]
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


def test_a_cancelled_task_is_dropped_and_the_others_go_on(model: LlamaForCausalLM) -> None:
    steps = Counter[int]()

    def cancelled(task: int) -> bool:
        steps[task] += 1
        return task == 1 and steps[1] > 3

    expected = run(model, tasks(length=12))
    found = dict(decode(model, NO_STOP, tasks(length=12), cancelled))
    assert sorted(found) == [0, 2, 3]
    assert steps[1] == 4
    assert all(found[at][0].token_ids == expected[at][0].token_ids for at in found)


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
    numbers = uniforms(keys, 0, 100)
    assert numbers.min() > 0
    assert numbers.max() <= 1
    assert numbers.mean() == pytest.approx(0.5, abs=0.01)  # standard error of 20,000 numbers: 0.002
    assert numbers.var() == pytest.approx(1 / 12, abs=0.005)
    assert (uniforms(keys[5:6], 40, 3) == numbers[5, 40:43]).all()
