"""The gate: what lets a candidate through, what stops it, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import redis.asyncio as redis

from langptune.weights import Evaluation, Measurement, Readability, Release, ReleaseRegistry, Why
from services.trainer.publishing.gate import Gate, Verdict, probability_worse
from services.trainer.settings import TrainerSettings

GOOD = Readability(terminated=0.9, words=60.0, distinct_2=0.95, wordlike=0.99)
USERS = tuple(f"u{number}" for number in range(30))


@pytest.fixture
def registry(store: redis.Redis) -> ReleaseRegistry:
    return ReleaseRegistry(store)


def _settings(**values: Any) -> TrainerSettings:
    return TrainerSettings(**values)


async def _candidate(
    registry: ReleaseRegistry,
    live: Release,
    after: Sequence[float],
    *,
    before: Sequence[float] = (0.5,) * 30,
    parent: str = "",
    users: Sequence[str] = USERS,
    dataset: str = "data",
    readability: Readability | None = GOOD,
) -> Release:
    evaluation = Evaluation(
        dataset, 20, users, Measurement(parent or live.release_id, before, GOOD), Measurement("", after, readability)
    )
    return await registry.create("e2", "d2", evaluation=evaluation)


async def test_a_better_and_an_equal_candidate_pass(registry: ReleaseRegistry) -> None:
    live = await registry.ensure_first("e1", "d1", reason="first")
    gate = Gate(registry, _settings())
    for scores in ([0.6] * 30, [0.5] * 30):
        finding = await gate.check(await _candidate(registry, live, scores), live)
        assert (finding.verdict, finding.reasons, finding.users) == (Verdict.OPEN, (), 30)


async def test_a_worse_candidate_is_stopped_unless_the_level_says_never(registry: ReleaseRegistry) -> None:
    live = await registry.ensure_first("e1", "d1", reason="first")
    rng = np.random.default_rng(0)
    worse = await _candidate(registry, live, [0.4 + float(noise) for noise in rng.normal(0, 0.05, 30)])
    finding = await Gate(registry, _settings()).check(worse, live)
    assert finding.verdict is Verdict.CLOSED
    assert "is worse than 0.5000 of r1" in finding.reasons[0]
    assert (await Gate(registry, _settings(gate_p_value=0)).check(worse, live)).verdict is Verdict.OPEN


async def test_a_little_worse_by_chance_passes(registry: ReleaseRegistry) -> None:
    """15 users gain 0.1 and 15 lose 0.11: mean -0.005, standard error 0.019, t = -0.26, far from any level."""
    live = await registry.ensure_first("e1", "d1", reason="first")
    finding = await Gate(registry, _settings()).check(await _candidate(registry, live, [0.6, 0.39] * 15), live)
    assert finding.verdict is Verdict.OPEN
    assert finding.p_worse > 0.35


def test_the_paired_test_by_hand() -> None:
    """Differences -1, -1, 0, -2: mean -1, s = 0.8165, t = -1 / (0.8165 / 2) = -2.4495 with 3 degrees of freedom; the lower
    tail is 0.0459 (half of the two-sided 0.0917). No spread: certain either way."""
    assert probability_worse(np.array([-1.0, -1.0, 0.0, -2.0])) == pytest.approx(0.0459, abs=2e-4)
    assert probability_worse(np.array([0.0, 0.0])) == 1.0
    assert probability_worse(np.array([-0.1, -0.1])) == 0.0
    assert probability_worse(np.array([0.1, 0.1])) == 1.0


@pytest.mark.parametrize(
    ("readability", "said"),
    [
        (Readability(0.5, 60, 0.95, 0.99), "terminated has fallen from 0.90 to 0.50"),
        (Readability(0.9, 60, 0.3, 0.99), "distinct_2 has fallen"),
        (Readability(0.9, 60, 0.95, 0.4), "wordlike has fallen"),
        (Readability(0.9, 5, 0.95, 0.99), "went from 60 to 5 words"),
        (Readability(0.9, 600, 0.95, 0.99), "went from 60 to 600 words"),
    ],
)
async def test_profiles_that_cannot_be_read_are_stopped(registry: ReleaseRegistry, readability: Readability, said: str) -> None:
    live = await registry.ensure_first("e1", "d1", reason="first")
    finding = await Gate(registry, _settings()).check(await _candidate(registry, live, [0.9] * 30, readability=readability), live)
    assert finding.verdict is Verdict.CLOSED
    assert said in finding.reasons[0]


async def test_what_cannot_be_compared_is_unknown(registry: ReleaseRegistry) -> None:
    live = await registry.ensure_first("e1", "d1", reason="first")
    gate = Gate(registry, _settings())
    unmeasured = await registry.create("e2", "d2")
    foreign = await _candidate(registry, live, [0.9] * 30, parent="r77")
    few = await _candidate(registry, live, [0.9] * 5, before=[0.5] * 5, users=USERS[:5])
    silent = await _candidate(registry, live, [0.9] * 30, readability=None)
    for candidate, said in (
        (unmeasured, "measured on no validation users"),
        (foreign, "was not measured on the users of"),
        (few, "5 validation users were measured on both; 20 are needed"),
        (silent, "were not measured"),
    ):
        finding = await gate.check(candidate, live)
        assert finding.verdict is Verdict.UNKNOWN
        assert said in finding.reasons[0]


async def test_candidates_of_different_parents_are_compared_on_the_users_of_both(registry: ReleaseRegistry) -> None:
    first = await registry.ensure_first("e1", "d1", reason="first")
    live = await _candidate(registry, first, [0.6] * 30)
    await registry.set_live(live.release_id, expected=first.release_id, why=Why())
    gate = Gate(registry, _settings())
    users = [*USERS[5:], "another"]
    sibling = await _candidate(registry, first, [0.55] * 26, before=[0.5] * 26, users=users)
    finding = await gate.check(sibling, live)
    assert (finding.verdict, finding.users) == (Verdict.CLOSED, 25)  # better than its parent, worse than what is live
    elsewhere = await _candidate(registry, first, [0.9] * 30, dataset="other data")
    assert (await gate.check(elsewhere, live)).verdict is Verdict.UNKNOWN


async def test_what_has_been_live_is_not_asked(registry: ReleaseRegistry) -> None:
    first = await registry.ensure_first("e1", "d1", reason="first")
    second = await registry.create("e2", "d2")
    await registry.set_live(second.release_id, expected=first.release_id, why=Why())
    assert (await Gate(registry, _settings()).check(first, second)).verdict is Verdict.EXEMPT
