"""Algorithm 1 in one process: it learns, it resumes as if nothing had happened, it stops where it is told to."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from langptune.errors import FailedPrecondition, Internal
from services.trainer.learning.algorithm import Algorithm, Learners, Sources
from services.trainer.learning.checkpoint import Checkpoints
from services.trainer.learning.config import LearningConfig
from services.trainer.learning.embedder import Embedder, EmbedderLearner
from services.trainer.learning.policy import Policy
from services.trainer.learning.policy_learner import PolicyLearner
from services.trainer.learning.progress import Progress
from tests.unit.learning.support import item, session
from tests.unit.learning.world import InProcessRewards, InProcessRollouts, WordReward, tiny_embedder, tiny_writer

ITEMS = {f"i{number}": item(number) for number in range(30)}
SESSIONS = [session(user, [user % 30, (user + 3) % 30], (user + 7) % 30) for user in range(24)]
WHOLE = {
    "outer_iterations": 2,
    "contrastive": {"batches": 2, "final_batches": 1, "batch_size": 6, "learning_rate": 1e-3},
    "rlso": {"batches": 2, "histories": 4, "samples": 3, "learning_rate": 1e-3, "max_new_tokens": 10, "gamma": 0.05},
}


def rlso_only(seed: int, tokenizer: PreTrainedTokenizerFast, scratch: Path, **rlso: Any) -> Algorithm:
    """RLSO alone towards the word w5."""
    settings = {"batches": 8, "histories": 16, "samples": 4, "learning_rate": 5e-3, "max_new_tokens": 16, **rlso}
    config = LearningConfig.parse({"outer_iterations": 1, "contrastive": {"batches": 0}, "rlso": settings, "seed": seed})
    policy = PolicyLearner(Policy(tiny_writer(seed), tokenizer, config.rlso), config.rlso)
    rollouts = InProcessRollouts(tiny_writer(seed), tokenizer, scratch / f"writer-{seed}")
    return Algorithm(config, SESSIONS, ITEMS, Learners(policy, None), Sources(rollouts, WordReward("w5")))


def whole(tokenizer: PreTrainedTokenizerFast, scratch: Path, overrides: Mapping[str, Any] | None = None) -> Algorithm:
    """Every part of the loop: two outer iterations, KL against the base policy, a final CL batch."""
    config = LearningConfig.parse({**WHOLE, **(overrides or {})})
    embedder = tiny_embedder(scratch / "base", tokenizer)
    learners = Learners(
        PolicyLearner(Policy(tiny_writer(0), tokenizer, config.rlso), config.rlso),
        EmbedderLearner(Embedder(copy.deepcopy(embedder), rows=4), config.contrastive),
    )
    sources = Sources(
        InProcessRollouts(tiny_writer(0), tokenizer, scratch / "writer"),
        InProcessRewards(embedder, ITEMS, scratch / "embedder"),
    )
    return Algorithm(config, SESSIONS, ITEMS, learners, sources)


async def finished(algorithm: Algorithm) -> list[Progress]:
    return [progress async for progress in algorithm.run()]


def same(ours: Any, theirs: Any) -> bool:
    """Equality bit for bit of nested states."""
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(ours == theirs)


async def test_rlso_raises_the_reward(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """U is 1 with the word, 1 / log2(11) = 0.289 without, 0 when cut: it must rise in every seed, and clearly on the mean."""
    rises = []
    for seed in range(3):
        curve = [progress.reward_mean or 0.0 for progress in await finished(rlso_only(seed, tokenizer, tmp_path))]
        rises.append(mean(curve[-3:]) - mean(curve[:2]))
    assert min(rises) > 0.2
    assert mean(rises) > 0.3


async def test_contrastive_learning_of_raw_histories(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """NoProfile-CL needs no policy and no rollouts; the loss falls on the sessions that it sees again and again."""
    overrides = {
        "outer_iterations": 1,
        "contrastive": {"batches": 30, "batch_size": 12, "learning_rate": 1e-2},
        "rlso": {"batches": 0},
        "profile_source": "history",
    }
    algorithm = whole(tokenizer, tmp_path, overrides)
    algorithm.learners, algorithm.sources = Learners(None, algorithm.learners.embedder), Sources(None, None)
    losses = [progress.loss for progress in await finished(algorithm)]
    assert len(losses) == 30
    assert mean(losses[-5:]) < 0.7 * mean(losses[:5])


async def test_further_negatives_follow_from_the_step(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Negatives from the catalogue change what is learnt, and are the same again in a second run."""
    base = {"outer_iterations": 1, "rlso": {"batches": 0}, "profile_source": "history"}

    async def losses(negatives: int) -> list[float]:
        contrastive = {"batches": 3, "batch_size": 4, "catalogue_negatives": negatives}
        algorithm = whole(tokenizer, tmp_path, {**base, "contrastive": contrastive})
        return [progress.loss for progress in await finished(algorithm)]

    without, some, again, all_items = [await losses(negatives) for negatives in (0, 3, 3, 10_000)]
    assert some == again
    assert all(low < middle <= high for low, middle, high in zip(without, some, all_items, strict=True))


async def test_the_whole_loop_reports_every_batch(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    algorithm = whole(tokenizer, tmp_path)
    events = await finished(algorithm)
    assert [event.phase for event in events] == ["cl", "cl", "rlso", "rlso", "cl", "cl", "rlso", "rlso", "cl"]
    assert [(event.step, event.total) for event in events] == [(step, 9) for step in range(1, 10)]
    first_rlso, last_rlso = events[2], events[7]
    assert first_rlso.kl == 0.0  # nothing has moved yet
    assert last_rlso.kl != 0.0
    for event in (first_rlso, last_rlso):
        assert event.logprob_gap is not None
        assert event.logprob_gap < 1e-5  # the sampler holds exactly the trainer's weights
    rewards = algorithm.sources.rewards
    assert isinstance(rewards, InProcessRewards)
    assert rewards.uses == 2  # once before each RLSO phase, after CL
    metrics = last_rlso.metrics()
    assert {"reward_mean", "loss", "kl", "gradient_norm", "truncated_share", "distinct_2", "logprob_gap"} <= metrics.keys()
    assert all(isinstance(value, float) for value in metrics.values())


@pytest.mark.parametrize("stop_after", [1, 3, 4, 7])
async def test_resumed_is_uninterrupted(stop_after: int, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """In the middle of CL, in the middle of RLSO, between outer iterations: the same bits at the end."""
    straight = whole(tokenizer, tmp_path / "a")
    await finished(straight)

    broken = whole(tokenizer, tmp_path / "b")
    events = broken.run()
    for _ in range(stop_after):
        await anext(events)
    await events.aclose()
    assert broken.done == stop_after
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(broken.done, broken.state_dict())
    torch.manual_seed(99)  # the process that goes on is another one
    state = checkpoints.load()
    assert state is not None
    resumed = whole(tokenizer, tmp_path / "c")
    resumed.load_state_dict(state)
    assert len(await finished(resumed)) == 9 - stop_after

    ours, theirs = resumed.state_dict(), straight.state_dict()
    assert ours["run"].pop("versions").keys() == theirs["run"].pop("versions").keys()  # this test's sources count their versions
    assert same(ours, theirs)


async def test_measuring_the_kl_changes_nothing(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Without a KL term it is the figure that a KL term too small for float32 (1e-30) would have had, for the same weights."""
    runs = {}
    for name, rlso in {"off": {"measure_kl": False}, "on": {}, "used": {"gamma": 1e-30}}.items():
        algorithm = rlso_only(0, tokenizer, tmp_path / name, batches=3, **rlso)
        events = await finished(algorithm)
        assert algorithm.learners.policy
        runs[name] = (events, algorithm.learners.policy.state_dict()["weights"])
    assert [event.kl for event in runs["off"][0]] == [None] * 3
    measured, used = ([event.kl or 0.0 for event in runs[name][0]] for name in ("on", "used"))
    assert measured == pytest.approx(used, rel=1e-4, abs=1e-6)
    assert measured[0] == pytest.approx(0.0, abs=1e-6)
    assert abs(measured[2]) > 1e-3
    assert same(runs["off"][1], runs["on"][1])
    assert same(runs["used"][1], runs["on"][1])


async def test_leaving_the_loop_stops_it(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    algorithm = whole(tokenizer, tmp_path)
    async for progress in algorithm.run():
        if progress.step == 2:
            break
    assert algorithm.done == 2


async def test_a_checkpoint_of_another_configuration_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    state = whole(tokenizer, tmp_path).state_dict()
    with pytest.raises(FailedPrecondition, match="another configuration"):
        whole(tokenizer, tmp_path, {"seed": 1}).load_state_dict(state)


async def test_rollouts_of_other_weights_are_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """After the first update the source must sample from the version that it was last given."""
    algorithm = rlso_only(0, tokenizer, tmp_path, batches=2)
    source = algorithm.sources.rollouts
    assert isinstance(source, InProcessRollouts)
    source.version = 5

    async def ignoring(policy: object) -> str:
        return "v6"

    source.use = ignoring  # type: ignore[method-assign]
    with pytest.raises(Internal, match="v6"):
        await finished(algorithm)


def test_what_the_plan_needs_must_be_there(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    config = LearningConfig.parse(WHOLE)
    with pytest.raises(FailedPrecondition, match="learners"):
        Algorithm(config, SESSIONS, ITEMS, Learners(None, None), Sources(None, None))
    unknown = [session(0, [1], 99)]
    idle = LearningConfig.parse({"outer_iterations": 0})
    with pytest.raises(FailedPrecondition, match="i99"):
        Algorithm(idle, unknown, ITEMS, Learners(None, None), Sources(None, None))
