"""One suite for every engine of the port: what a caller may rely on whichever of them runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from langptune.errors import InvalidArgument, NotFound, ResourceExhausted
from langptune.weights import WeightsStore
from services.encoder.engines.port import Options, RolloutGroup, Work
from tests.integration.encoder.engines import HISTORIES, PLACES, Running, running_engine
from tests.support.micro_writer import interaction, micro_model

BOS, USER, EOS = 1, 3, 2


@pytest.fixture(params=["transformers", "tgi"])
async def running(
    request: pytest.FixtureRequest, store: WeightsStore, base_version: str, model_folder: Path
) -> AsyncIterator[Running]:
    async with running_engine(request.param, store, base_version, model_folder) as engine:
        yield engine


def teacher_forced(prompt: list[int], response: list[int]) -> list[float]:
    """ln pi of the response's tokens, by the library's model alone."""
    with torch.no_grad():
        logits = micro_model()(input_ids=torch.tensor([prompt + response])).logits[0].float()
    log_probs = logits[len(prompt) - 1 : -1].log_softmax(1)
    return [float(log_probs[at, token]) for at, token in enumerate(response)]


async def test_greedy_text_is_what_the_library_generates(running: Running, model_folder: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_folder), AutoTokenizer.from_pretrained(model_folder)
    for history in HISTORIES:
        group = await running.engine.generate(Work(running.version, [history], "books", Options(20, 0.0, 0)))
        ids = torch.tensor([group.prompt_token_ids])
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20)[0, ids.shape[1] :]
        assert list(group.rollouts[0].token_ids) == expected.tolist()
        assert tokenizer.decode(expected, skip_special_tokens=True).startswith(group.rollouts[0].text[:1])


async def test_the_prompt_has_one_bos_and_both_sides_count_alike(running: Running) -> None:
    group = await running.engine.generate(running.work())
    assert list(group.prompt_token_ids[:2]) == [BOS, USER]
    assert BOS not in group.prompt_token_ids[1:]


async def test_a_seed_reproduces_and_another_does_not(running: Running) -> None:
    first, again, other = [await running.sample(running.work(histories=2, samples=2, seed=seed)) for seed in (5, 5, 6)]
    assert [[rollout.token_ids for rollout in group.rollouts] for group in first] == [
        [rollout.token_ids for rollout in group.rollouts] for group in again
    ]
    texts = [rollout.token_ids for group in (*first, *other) for rollout in group.rollouts]
    assert len(set(texts)) == 8


async def test_a_profile_is_the_first_rollout_of_the_same_seed(running: Running) -> None:
    profile = await running.engine.generate(running.work())
    (group,) = await running.sample(running.work(samples=3))
    assert profile.rollouts[0].token_ids == group.rollouts[0].token_ids


async def test_log_probs_equal_teacher_forcing(running: Running) -> None:
    for group in await running.sample(running.work(histories=3, samples=3, length=30)):
        for rollout in group.rollouts:
            expected = teacher_forced(list(group.prompt_token_ids), list(rollout.token_ids))
            assert list(rollout.log_probs) == pytest.approx(expected, abs=1e-4)


async def test_the_score_of_a_text_equals_teacher_forcing(running: Running, model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    prompt = list((await running.engine.generate(running.work(length=1))).prompt_token_ids)
    response = [*tokenizer("Likes quiet drama.", add_special_tokens=False)["input_ids"], EOS]
    scored = await running.engine.score(running.version, prompt, response)
    assert scored == pytest.approx(teacher_forced(prompt, response), abs=1e-4)


async def test_texts_stop_at_eos_or_at_the_limit(running: Running) -> None:
    """The untrained model ends a text with probability of about 1/261 a token: over 12 texts of 100 tokens both ends occur."""
    groups = await running.sample(running.work(histories=3, samples=4, length=100))
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    assert {rollout.finish_reason for rollout in rollouts} == {"stop", "length"}
    for rollout in rollouts:
        assert EOS not in rollout.token_ids[:-1]
        assert (rollout.token_ids[-1] == EOS) == (rollout.finish_reason == "stop")
        assert rollout.finish_reason == "stop" or len(rollout.token_ids) == 100
        assert len(rollout.log_probs) == len(rollout.token_ids)


async def test_a_streamed_profile_is_the_generated_one_in_pieces(running: Running) -> None:
    whole = await running.engine.generate(running.work(length=40))
    *pieces, last = [part async for part in running.engine.stream(running.work(length=40))]
    assert isinstance(last, RolloutGroup)
    assert last.rollouts[0].token_ids == whole.rollouts[0].token_ids
    assert "".join(str(piece) for piece in pieces) == whole.rollouts[0].text
    assert len(pieces) > 5


async def test_prompt_and_profile_stay_within_the_context(running: Running) -> None:
    """The micro model has 2,048 positions, the prompt limit is 1,024."""
    group = await running.engine.generate(Work(running.version, [[interaction("X" * 600)]], "books", Options(1_024, 1.0, 2)))
    assert len(group.prompt_token_ids) <= 1_024
    assert len(group.prompt_token_ids) + len(group.rollouts[0].token_ids) <= 2_048
    long = Work(running.version, [HISTORIES[0], [interaction("X" * 1_000)]], "books", Options(5, 1.0, 2))
    with pytest.raises(InvalidArgument, match=r"histories\[1\]\.interactions\[0\]"):
        await running.sample(long)


async def test_an_unknown_version_does_not_exist(running: Running) -> None:
    for call in (running.engine.load("nowhere"), running.engine.score("nowhere", [1], [2])):
        with pytest.raises(NotFound) as unknown:
            await call
        assert unknown.value.identifier == "nowhere"


async def test_versions_are_listed_until_they_are_unloaded_and_come_back_on_use(running: Running) -> None:
    assert running.engine.versions() == [running.version]
    assert await running.engine.load(running.version) is True
    await running.engine.unload(running.version)
    await running.engine.unload(running.version)
    assert running.engine.versions() == []
    await running.engine.generate(running.work(length=2))
    assert running.engine.versions() == [running.version]
    await running.engine.unload(running.version)
    assert await running.engine.load(running.version) is False


async def test_a_full_engine_refuses_and_a_cancelled_call_frees_its_place(running: Running) -> None:
    if running.tgi:
        running.tgi.step_seconds = 0.02
    long = running.work(histories=2, samples=8, length=900)
    calls = [asyncio.create_task(running.sample(long)) for _ in range(PLACES)]
    await asyncio.sleep(0.2)
    with pytest.raises(ResourceExhausted) as refused:
        await running.engine.generate(running.work())
    assert refused.value.retry_after == 0.25
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await asyncio.wait_for(running.engine.generate(running.work(length=3)), 30)
    if running.tgi:
        await settled(running)


async def test_a_stream_that_is_left_early_ends_the_work(running: Running) -> None:
    if running.tgi:
        running.tgi.step_seconds = 0.02
    stream = running.engine.stream(running.work(length=1_000))
    assert isinstance(await anext(stream), str)
    await stream.aclose()
    await asyncio.wait_for(running.engine.generate(running.work(length=3)), 30)
    if running.tgi:
        await settled(running)


async def settled(running: Running) -> None:
    """The server runs nothing any more: what was called off had ended there, too, long before its 900 tokens."""
    assert running.tgi
    for _ in range(100):
        if not running.tgi.running:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{running.tgi.running} requests still run")
