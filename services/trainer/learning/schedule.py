"""The order of things as pure functions of the configuration: which step comes when, on which data, with which seed and rate.

Nothing here has state, so a resumed run needs only its position in the plan to go on exactly as it would have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from services.trainer.learning.config import LearningConfig

Phase = Literal["cl", "rlso"]
_TAGS: dict[Phase, int] = {"cl": 1, "rlso": 2}


@dataclass(frozen=True, slots=True)
class Step:
    """One batch of Algorithm 1."""

    phase: Phase
    outer: int  # k; the final CL batches belong to the last outer iteration
    number: int  # among all batches of this phase in the job, from 0


def plan(config: LearningConfig) -> list[Step]:
    """All batches of the job in order: K times (J of CL, T of RLSO), then the final CL batches. Empty for K = 0 (zero-shot)."""
    cl, rlso, outer = config.contrastive.batches, config.rlso.batches, config.outer_iterations
    steps: list[Step] = []
    for k in range(outer):
        steps += [Step("cl", k, k * cl + j) for j in range(cl)]
        steps += [Step("rlso", k, k * rlso + t) for t in range(rlso)]
    if outer:
        steps += [Step("cl", outer - 1, outer * cl + j) for j in range(config.contrastive.final_batches)]
    return steps


def batch_positions(seed: int, phase: Phase, number: int, size: int, population: int) -> list[int]:
    """Which of `population` examples are batch `number` of a phase: consecutive slices of one fresh shuffle per pass."""
    flat = range(number * size, (number + 1) * size)
    orders = {
        sweep: np.random.default_rng([seed, _TAGS[phase], sweep]).permutation(population)
        for sweep in {index // population for index in flat}
    }
    return [int(orders[index // population][index % population]) for index in flat]


def negative_positions(seed: int, step: Step, count: int, population: int) -> list[int]:
    """Which `count` (or all) of `population` items are the further negatives of a CL batch; distinct."""
    rng = np.random.default_rng([seed, 24 + _TAGS[step.phase], step.number])
    return [int(at) for at in rng.choice(population, min(count, population), replace=False)]


def generation_seed(seed: int, step: Step) -> int:
    """A seed in [0, 2**31) for the rollouts of one step."""
    sequence = np.random.SeedSequence([seed, 16 + _TAGS[step.phase], step.number])
    return int(sequence.generate_state(1)[0]) & 0x7FFFFFFF


def linear_decay(rate: float, done: int, total: int) -> float:
    """The learning rate of update `done` (from 0) of `total`: `rate` at the first, `rate / total` at the last."""
    return rate * (1.0 - done / total)
