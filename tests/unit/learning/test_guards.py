"""Guards against reward hacking: each one fires on real rollouts and real updates, and only there."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from langptune.domain import Interaction, Session
from langptune.errors import InvalidArgument
from services.trainer.learning.algorithm import Algorithm, Learners, Sources
from services.trainer.learning.config import GuardsConfig, LearningConfig
from services.trainer.learning.guards import Alarm, Guards
from services.trainer.learning.policy import Policy
from services.trainer.learning.policy_learner import PolicyLearner
from services.trainer.learning.ports import Rollout, RolloutGroup
from services.trainer.learning.progress import RolloutFigures
from tests.unit.learning.support import item, session
from tests.unit.learning.world import InProcessRollouts, WordReward, tiny_writer

ITEMS = {f"i{number}": item(number) for number in range(30)}
SESSIONS = [session(user, [user % 30, (user + 3) % 30], (user + 7) % 30) for user in range(8)]
SMALL = {"batches": 4, "histories": 4, "samples": 3, "learning_rate": 5e-3, "max_new_tokens": 10, "gamma": 0.01}
QUIET = {name: {"above": None, "below": None} for name in GuardsConfig().by_metric()}


def _algorithm(
    tokenizer: PreTrainedTokenizerFast,
    scratch: Path,
    guards: Mapping[str, Any],
    sessions: Sequence[Session] = SESSIONS,
    **rlso: Any,
) -> Algorithm:
    """RLSO alone with real models; only the guards of `guards` have limits."""
    config = LearningConfig.parse(
        {
            "outer_iterations": 1,
            "contrastive": {"batches": 0},
            "rlso": {**SMALL, **rlso},
            "guards": {**QUIET, "patience": 2, **guards},
        }
    )
    policy = PolicyLearner(Policy(tiny_writer(0), tokenizer, config.rlso), config.rlso)
    rollouts = InProcessRollouts(tiny_writer(0), tokenizer, scratch / "writer")
    return Algorithm(config, sessions, ITEMS, Learners(policy, None), Sources(rollouts, WordReward("w5")))


async def _alarms(algorithm: Algorithm) -> list[tuple[int, Alarm]]:
    return [(progress.step, alarm) async for progress in algorithm.run() for alarm in progress.alarms]


def _look(guards: Guards, **metrics: float) -> list[str]:
    return [alarm.guard for alarm in guards.look("rlso", {"loss": 1.0, "gradient_norm": 1.0, **metrics})]


@pytest.mark.parametrize(
    ("guard", "limits", "rlso"),
    [
        ("kl", {"above": 0.01}, {}),  # 0 in the first update; then the policy has moved
        ("response_tokens", {"above": 4.0}, {}),
        ("response_tokens", {"below": 9.99}, {}),
        ("truncated_share", {"above": 0.05}, {"max_new_tokens": 3}),
        ("distinct_2", {"below": 0.999}, {"max_new_tokens": 40}),
        ("logprob_gap", {"above": 0.0}, {}),  # float noise between the sampler and the trainer
        ("gradient_norm", {"above": 0.01}, {}),
    ],
)
async def test_a_guard_fires_on_a_real_run(
    guard: str, limits: dict[str, float], rlso: dict[str, Any], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    alarms = await _alarms(_algorithm(tokenizer, tmp_path, {guard: {**limits, "action": "stop"}}, **rlso))
    assert {alarm.guard for _, alarm in alarms} == {guard}
    step, first = alarms[0]
    assert step == (3 if guard == "kl" else 2)  # patience 2
    assert first.stops
    assert (first.value > first.limit) == ("above" in limits)
    assert first.limit in limits.values()


async def test_copying_the_history_fires(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """20,000 random words hold about 1 - exp(-20,000 / 11^4) = 0.74 of all runs of four of the writer's eleven words; profiles of
    fewer than four words copy nothing."""
    quiet = _algorithm(tokenizer, tmp_path, {"copied_share": {"above": 0.0}}, max_new_tokens=40)
    assert await _alarms(quiet) == []  # titles of one word each
    draw = random.Random(0)
    review = " ".join(f"w{draw.randint(3, 13)}" for _ in range(20_000))
    talkative = [Session("u", (Interaction(item(3), 5.0, review),), ("i9",))] * 4
    algorithm = _algorithm(tokenizer, tmp_path, {"copied_share": {"above": 0.4}}, sessions=talkative, max_new_tokens=40)
    ((step, alarm),) = await _alarms(algorithm)
    assert (step, alarm.guard) == (2, "copied_share")
    assert 0.4 < alarm.value < 0.85


def test_copied_share_by_hand() -> None:
    """Seven words have four runs of four; two of them stand in the history: 0.5. Fewer than four words: nothing is copied."""
    groups = [
        RolloutGroup((1,), (Rollout((5, 2), "A slow film about trains, and snow.", "stop"),), "v"),
        RolloutGroup((1,), (Rollout((5, 2), "Likes noir films", "stop"), Rollout((5, 2), "", "length")), "v"),
    ]
    histories = ["Title: Snow\nDescription: a SLOW film about trains -", "Title: Likes noir films"]
    assert RolloutFigures.of(groups, histories).copied_share == pytest.approx(0.5 / 3)


async def test_a_run_within_its_limits_is_quiet(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    limits = {"response_tokens": {"above": 10.0, "below": 1.0}, "logprob_gap": {"above": 1e-3}, "kl": {"above": 1e3}}
    algorithm = _algorithm(tokenizer, tmp_path, limits)
    assert await _alarms(algorithm) == []
    assert algorithm.score is not None
    assert 0.0 <= algorithm.score <= 1.0


async def test_a_checkpoint_beside_a_broken_limit_is_never_the_best(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    algorithm = _algorithm(tokenizer, tmp_path, {"kl": {"above": 0.01}})
    scores = [(progress.step, algorithm.score) async for progress in algorithm.run()]
    assert [step for step, score in scores if score is not None] == [1]


def test_a_warning_is_told_once_until_the_figure_has_come_back() -> None:
    guards = Guards(GuardsConfig.model_validate({"patience": 2, "kl": {"above": 1.0}}))
    told = [bool(_look(guards, kl=value)) for value in (2.0, 2.0, 2.0, 0.5, 2.0, 1.0, 2.0, 2.0)]
    assert told == [False, True, False, False, False, False, False, True]
    assert guards.look("cl", {"loss": 1.0, "gradient_norm": 1e9, "kl": 2.0}) == ()  # limits are for updates of the policy


def test_patience_survives_a_checkpoint() -> None:
    config = GuardsConfig.model_validate({"patience": 2, "kl": {"above": 1.0, "action": "stop"}})
    before, after = Guards(config), Guards(config)
    assert _look(before, kl=2.0) == []
    after.load_state_dict(before.state_dict())
    assert not after.quiet
    assert _look(after, kl=2.0) == _look(after, kl=2.0) == ["kl"]  # a stop that nobody heeds is told again


@pytest.mark.parametrize(
    ("phase", "name"), [("cl", "loss"), ("cl", "gradient_norm"), ("rlso", "loss"), ("rlso", "gradient_norm")]
)
def test_what_is_not_finite_stops_at_once(phase: str, name: str) -> None:
    metrics = {"loss": 1.0, "gradient_norm": 1.0, name: math.nan}
    (alarm,) = Guards(GuardsConfig()).look(phase, metrics)
    assert (alarm.guard, alarm.stops) == (name, True)


def test_not_a_number_is_beyond_every_limit() -> None:
    assert _look(Guards(GuardsConfig(patience=1)), distinct_2=math.nan, kl=math.nan) == ["kl", "distinct_2"]


async def test_ruined_weights_stop_the_run(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """As after a step with a broken gradient."""
    algorithm = _algorithm(tokenizer, tmp_path, {}, gamma=0.0)
    learner = algorithm.learners.policy
    assert learner is not None
    run = algorithm.run()
    assert (await anext(run)).alarms == ()
    with torch.no_grad():
        next(iter(learner.policy.trainable().values())).fill_(torch.inf)
    algorithm._stale_rollouts = False  # the sampler keeps sound weights: it would refuse to sample from these
    algorithm._expected_version = None
    progress = await anext(run)
    assert {alarm.guard for alarm in progress.alarms} == {"loss", "gradient_norm"}
    assert all(alarm.stops for alarm in progress.alarms)


def test_a_guard_keeps_the_defaults_that_are_not_named() -> None:
    config = LearningConfig.parse({"guards": {"kl": {"action": "stop"}, "patience": "5"}})
    assert (config.guards.kl.action, config.guards.kl.above) == ("stop", GuardsConfig().kl.above)
    assert config.guards.patience == 5
    assert config.guards.distinct_2 == GuardsConfig().distinct_2
    with pytest.raises(InvalidArgument) as refused:
        LearningConfig.parse({"guards": {"kl": {"action": "panic"}}})
    assert refused.value.field == "guards.kl.action"
    with pytest.raises(InvalidArgument) as refused:
        LearningConfig.parse({"guards": {"speed": {"above": 1}}})
    assert refused.value.field == "guards.speed"
