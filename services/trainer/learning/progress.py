"""What a run tells about itself after every batch, and the figures it takes from the rollouts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from torch import Tensor

from services.trainer.learning.guards import Alarm
from services.trainer.learning.ports import RolloutGroup
from services.trainer.learning.schedule import Phase

COPIED_WORDS = 4  # length of a run of words that counts as copied


@dataclass(frozen=True, slots=True)
class RolloutFigures:
    """Means over the rollouts of one batch."""

    response_tokens: float  # length, EOS included
    truncated_share: float  # did not terminate within the limit; 0.0 to 1.0
    distinct_1: float  # distinct tokens / tokens of a response; 0.0 to 1.0
    distinct_2: float  # distinct token pairs / token pairs of a response; 0.0 to 1.0; falls when the policy repeats itself
    copied_share: float  # runs of four words of a profile that stand in the history / all such runs; 0.0 to 1.0

    @classmethod
    def of(cls, groups: Sequence[RolloutGroup], histories: Sequence[str]) -> RolloutFigures:
        """The figures of at least one rollout; `histories` are the texts that the groups were written from."""
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        return cls(
            response_tokens=float(np.mean([len(rollout.token_ids) for rollout in rollouts])),
            truncated_share=float(np.mean([rollout.finish_reason == "length" for rollout in rollouts])),
            distinct_1=float(np.mean([distinct_share(rollout.token_ids, 1) for rollout in rollouts])),
            distinct_2=float(np.mean([distinct_share(rollout.token_ids, 2) for rollout in rollouts])),
            copied_share=_copied(groups, histories),
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """One batch of Algorithm 1, done. What a phase does not have is None."""

    step: int  # batches done, 1 to `total`
    total: int
    phase: Phase
    outer: int  # k
    loss: float  # CL: InfoNCE in nats; RLSO: of the last epoch
    gradient_norm: float  # RLSO: of the first epoch
    learning_rate: float
    seconds_rollouts: float  # publishing weights and sampling
    seconds_rewards: float  # publishing weights and ranking
    seconds_update: float  # gradients and optimizer
    rollouts: RolloutFigures | None = None
    accuracy: float | None = None  # CL: share of rows whose positive beats its negatives
    reward_mean: float | None = None  # RLSO: U with Gamma, before the KL term and standardisation
    reward_std: float | None = None  # RLSO: of the same
    first_loss: float | None = None  # RLSO: of the first epoch
    kl: float | None = None  # RLSO, if used or measured: ln pi_t - ln pi_0, nats per rollout
    logprob_gap: float | None = None  # RLSO: |engine - trainer| of the mean token log-prob, nats; None if the engine gives none
    alarms: tuple[Alarm, ...] = ()  # guards that this batch made fire

    def metrics(self) -> dict[str, float]:
        """All figures that there are, by name, for a wire format or a log line."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in _NO_METRIC}
        nested = {} if self.rollouts is None else asdict(self.rollouts)
        return {name: float(value) for name, value in (own | nested).items() if value is not None}


_NO_METRIC = {"step", "total", "phase", "outer", "rollouts", "alarms"}


def distinct_share(token_ids: Sequence[int], n: int) -> float:
    """Distinct n-grams / n-grams; 1.0 where there is none."""
    grams = [tuple(token_ids[at : at + n]) for at in range(len(token_ids) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def word_runs(text: str) -> list[tuple[str, ...]]:
    """All runs of COPIED_WORDS words, in lower case and without punctuation."""
    words = re.findall(r"\w+", text.lower())
    return [tuple(words[at : at + COPIED_WORDS]) for at in range(len(words) - COPIED_WORDS + 1)]


def _copied(groups: Sequence[RolloutGroup], histories: Sequence[str]) -> float:
    shares = []
    for group, history in zip(groups, histories, strict=True):
        known = set(word_runs(history))
        for runs in (word_runs(rollout.text) for rollout in group.rollouts):
            shares.append(sum(run in known for run in runs) / len(runs) if runs else 0.0)
    return float(np.mean(shares))


def logprob_gap(groups: Sequence[RolloutGroup], trainer: Tensor) -> float | None:
    """Mean over rollouts of |engine - trainer| / tokens, nats; `trainer` [B, G] are sequence log-probs."""
    gaps = [
        abs(sum(rollout.engine_logprobs) - own) / len(rollout.token_ids)
        for group, row in zip(groups, trainer.tolist(), strict=True)
        for rollout, own in zip(group.rollouts, row, strict=True)
        if rollout.engine_logprobs
    ]
    return float(np.mean(gaps)) if gaps else None
