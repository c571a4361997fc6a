"""The transformers engine over a real weights store, without gRPC."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from langptune.convert import check_text
from langptune.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from langptune.weights import Manifest, WeightsStore
from services.encoder.engines.port import Options, RolloutGroup, Work
from services.encoder.engines.transformers import TransformersEngine
from services.encoder.settings import EncoderSettings
from tests.support.micro_writer import interaction, save_micro_writer

HISTORIES = [[interaction(f"Title {number}", review="So so. " * number)] for number in range(4)]


def work(version: str, *, histories: int = 1, samples: int = 1, length: int = 10, seed: int = 1) -> Work:
    return Work(version, HISTORIES[:histories], "books", Options(length, 1.0, seed), samples)


def long_work(version: str) -> Work:
    """128 profiles of up to 900 tokens: many seconds."""
    return work(version, histories=4, samples=32, length=900)


def publish(store: WeightsStore, folder: Path, seed: int) -> str:
    save_micro_writer(folder, seed)
    return store.add(folder, Manifest(version="trained", kind="encoder", base_model="micro")).version


async def sample(engine: TransformersEngine, wanted: Work) -> list[RolloutGroup]:
    return sorted([group async for group in engine.sample_rollouts(wanted)], key=lambda group: group.index)


async def test_a_profile_is_the_first_rollout_of_the_same_seed(engine: TransformersEngine, base_version: str) -> None:
    profile = await engine.generate(work(base_version))
    (group,) = await sample(engine, work(base_version, samples=3))
    assert profile.rollouts[0].token_ids == group.rollouts[0].token_ids
    assert len(group.rollouts) == 3
    assert group.rollouts[0].text == group.rollouts[0].text.strip()


async def test_more_rollouts_than_a_batch_holds_all_arrive(engine: TransformersEngine, base_version: str) -> None:
    """4 histories of 5 samples in batches of at most 8 rows."""
    groups = await sample(engine, work(base_version, histories=4, samples=5))
    assert [group.index for group in groups] == [0, 1, 2, 3]
    assert [len(group.rollouts) for group in groups] == [5] * 4
    alone = await sample(engine, work(base_version, histories=1, samples=5))
    assert [rollout.token_ids for rollout in groups[0].rollouts] == [rollout.token_ids for rollout in alone[0].rollouts]


async def test_concurrent_profiles_share_batches_and_stay_apart(engine: TransformersEngine, base_version: str) -> None:
    together = await asyncio.gather(*(engine.generate(work(base_version, seed=seed)) for seed in range(3)))
    for seed, profile in enumerate(together):
        alone = await engine.generate(work(base_version, seed=seed))
        assert alone.rollouts[0].token_ids == profile.rollouts[0].token_ids


async def test_a_streamed_profile_is_the_generated_one_in_pieces(engine: TransformersEngine, base_version: str) -> None:
    whole = await engine.generate(work(base_version, length=60))
    *pieces, last = [part async for part in engine.stream(work(base_version, length=60))]
    assert last == whole
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == whole.rollouts[0].text
    assert len(pieces) > 5


async def test_a_request_joins_a_running_batch_and_leaves_the_others_as_they_are(
    engine: TransformersEngine, base_version: str
) -> None:
    """The profile is there long before the rollouts that it joins; those are what they are without it, to the last bit."""
    long = work(base_version, samples=4, length=400)
    alone = await sample(engine, long)
    running = asyncio.create_task(sample(engine, long))
    await asyncio.sleep(0.1)
    await engine.generate(work(base_version, length=5, seed=9))
    assert not running.done()
    assert await running == alone


async def test_two_versions_write_at_the_same_time(
    engine: TransformersEngine, store: WeightsStore, base_version: str, tmp_path: Path
) -> None:
    other = publish(store, tmp_path / "model", 1)
    apart = [(await sample(engine, work(version, samples=2, length=30))) for version in (base_version, other)]
    together = await asyncio.gather(*(sample(engine, work(version, samples=2, length=30)) for version in (base_version, other)))
    assert together == apart
    assert apart[0] != apart[1]


async def test_a_full_engine_refuses_and_a_cancelled_call_frees_its_place(engine: TransformersEngine, base_version: str) -> None:
    await engine.load(base_version)
    running = [asyncio.create_task(sample(engine, long_work(base_version))) for _ in range(3)]
    await asyncio.sleep(0.1)
    with pytest.raises(ResourceExhausted) as refused:
        await engine.generate(work(base_version))
    assert refused.value.retry_after == 0.25
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    started = time.perf_counter()
    await engine.generate(work(base_version))
    assert time.perf_counter() - started < 5.0  # what was called off would take longer


async def test_a_stream_that_is_left_early_stops_the_work(engine: TransformersEngine, base_version: str) -> None:
    stream = engine.sample_rollouts(work(base_version, histories=4, samples=8, length=900))
    started = time.perf_counter()
    async for _ in stream:
        break
    await stream.aclose()
    after_first = time.perf_counter()
    await engine.generate(work(base_version))
    assert time.perf_counter() - after_first < max(1.0, after_first - started)


async def test_versions_differ_and_are_loaded_on_first_use(
    engine: TransformersEngine, store: WeightsStore, base_version: str, tmp_path: Path
) -> None:
    """The folder of a second trained version differs from the first in its weights alone, so only they are read."""
    trained = [publish(store, tmp_path / f"model-{seed}", seed) for seed in (1, 2)]
    texts = {(await engine.generate(work(version, length=30))).rollouts[0].token_ids for version in (base_version, *trained)}
    assert len(texts) == 3
    assert engine.versions() == trained  # two places: the base version has left
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model-2")
    greedy = Work(trained[1], HISTORIES[:1], "books", Options(12, 0.0, 0))
    group = await engine.generate(greedy)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model-2")
    ids = tokenizer(tokenizer.decode(group.prompt_token_ids), add_special_tokens=False, return_tensors="pt")
    expected = model.generate(**ids, do_sample=False, max_new_tokens=12)[0, ids["input_ids"].shape[1] :]
    assert list(group.rollouts[0].token_ids) == expected.tolist()


async def test_unknown_and_damaged_versions(engine: TransformersEngine, store: WeightsStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await engine.load("nowhere")
    version = publish(store, tmp_path / "model", 3)
    (tmp_path / "weights" / "encoder" / version / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(FailedPrecondition, match="not the file that was published"):
        await engine.load(version)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"rubbish")
    rubbish = store.add(tmp_path / "model", Manifest(version="rubbish", kind="encoder", base_model="micro")).version
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        await engine.load(rubbish)


async def test_the_context_bounds_prompt_and_profile(
    engine: TransformersEngine, base_version: str, settings: EncoderSettings
) -> None:
    """The micro model has 2,048 positions and a prompt limit of 1,024."""
    group = await engine.generate(Work(base_version, [[interaction("X" * 500)]], "books", Options(4_096, 1.0, 2)))
    assert len(group.prompt_token_ids) + len(group.rollouts[0].token_ids) <= 2_048
    with pytest.raises(InvalidArgument, match=r"history\.interactions\[0\]"):
        await engine.generate(Work(base_version, [[interaction("X" * 1_000)]], "books", Options(5, 1.0, 2)))


async def test_closing_ends_what_runs(settings: EncoderSettings, store: WeightsStore, base_version: str) -> None:
    engine = TransformersEngine(settings, store)
    await engine.load(base_version)
    running = asyncio.create_task(sample(engine, long_work(base_version)))
    await asyncio.sleep(0.2)
    await engine.close()
    with pytest.raises(Unavailable):
        await running


async def test_texts_hold_no_control_characters_whatever_bytes_are_sampled(
    engine: TransformersEngine, base_version: str, model_folder: Path
) -> None:
    """The untrained byte-level model samples all 256 bytes about alike, so 30 in 256 tokens are control characters."""
    groups = await sample(engine, work(base_version, samples=8, length=40))
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    sampled = "".join(tokenizer.decode(rollout.token_ids) for rollout in groups[0].rollouts)
    assert any(ord(mark) < 9 for mark in sampled)
    for rollout in groups[0].rollouts:
        check_text("text", rollout.text)


async def test_the_score_of_a_rollout_is_its_log_probs(engine: TransformersEngine, base_version: str) -> None:
    (group,) = await sample(engine, work(base_version, samples=3, length=25))
    for rollout in group.rollouts:
        scored = await engine.score(base_version, group.prompt_token_ids, rollout.token_ids)
        assert scored == pytest.approx(list(rollout.log_probs), abs=1e-4)


@pytest.mark.parametrize(
    ("prompt", "response", "field"), [([], [5], "prompt_ids"), ([1], [], "response_ids"), ([1], [5] * 2_048, "prompt_ids")]
)
async def test_what_cannot_be_scored(
    engine: TransformersEngine, base_version: str, prompt: list[int], response: list[int], field: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await engine.score(base_version, prompt, response)
    assert refused.value.field == field
