"""Algorithm 1 of the paper as one loop over the plan of `schedule`, with its variants as values of the configuration.

The caller iterates: `async for progress in algorithm.run()`. Between two batches, where it has control, it reports progress,
saves `state_dict()`, or cancels by leaving the loop. Left out, and the caller's: loading models, publishing, validation.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, TypeVar

import torch
from torch import Tensor

from langptune.domain import Item, Session
from langptune.errors import FailedPrecondition, Internal
from langptune.ranking import ranking_quality
from langptune.text import history_text, item_text
from services.trainer.learning.config import LearningConfig
from services.trainer.learning.embedder import ContrastiveExample, EmbedderLearner
from services.trainer.learning.guards import Guards
from services.trainer.learning.policy_learner import PolicyLearner
from services.trainer.learning.ports import RankQuery, RewardSource, RolloutGroup, RolloutSource
from services.trainer.learning.progress import Progress, RolloutFigures, logprob_gap
from services.trainer.learning.randomness import random_state, restore_random_state
from services.trainer.learning.rlso import with_truncation
from services.trainer.learning.schedule import Step, batch_positions, generation_seed, linear_decay, negative_positions, plan

Part = TypeVar("Part")
_RECENT = 10  # RLSO batches that the score is a mean over


@dataclass(frozen=True, slots=True)
class Learners:
    """What learns. A part that the configuration does not train may be None."""

    policy: PolicyLearner | None  # needed for RLSO
    embedder: EmbedderLearner | None  # needed for CL


@dataclass(frozen=True, slots=True)
class Sources:
    """The two ports. They start at the weights that the job starts from and are told only of weights that learnt."""

    rollouts: RolloutSource | None  # None only for NoProfile
    rewards: RewardSource | None  # None only without RLSO


class Algorithm:
    """One run of Algorithm 1 over the training sessions."""

    def __init__(
        self,
        config: LearningConfig,
        sessions: Sequence[Session],
        items: Mapping[str, Item],
        learners: Learners,
        sources: Sources,
    ) -> None:
        """Raises FailedPrecondition if a part that the plan needs is missing, or a target is no item of the catalogue."""
        self.config = config
        self.sessions = sessions
        self.items = items
        self._item_ids = sorted(items)  # the same order in every run
        self.learners = learners
        self.sources = sources
        self.plan = plan(config)
        self.done = 0  # batches of the plan
        self.versions: dict[str, str] = {}  # encoder, decoder: what the sources were last told to use, if they were
        self._expected_version: str | None = None  # of rollouts; None: whatever the source has
        self._stale_rollouts = False  # the policy learnt since the rollout source was last told
        self._stale_rewards = False
        self._guards = Guards(config.guards)
        self._rewards: deque[float] = deque(maxlen=_RECENT)
        self._check()

    async def run(self) -> AsyncGenerator[Progress, None]:
        """Do the batches that are left, one after the other. At every yield the state is at a batch boundary."""
        while self.done < len(self.plan):
            step = self.plan[self.done]
            progress = await (self._contrastive(step) if step.phase == "cl" else self._rlso(step))
            self.done += 1
            if progress.reward_mean is not None:
                self._rewards.append(progress.reward_mean)
            yield replace(progress, alarms=self._guards.look(step.phase, progress.metrics()))

    @property
    def score(self) -> float | None:
        """How good the policy is now, to tell the best checkpoint: its mean reward of late; None while a guard is not content."""
        return fmean(self._rewards) if self._rewards and self._guards.quiet else None

    async def _contrastive(self, step: Step) -> Progress:
        """Algorithm 1, lines 6 and 7."""
        learner = _present(self.learners.embedder)
        config = self.config.contrastive
        sessions = self._batch(step, config.batch_size)
        started = time.perf_counter()
        groups = await self._sample(step, sessions, 1) if self.config.profile_source == "profile" else None
        sampled = time.perf_counter()
        texts = (
            [group.rollouts[0].text for group in groups]
            if groups
            else [learner.embedder.text_of(row.history) for row in sessions]
        )
        examples = [self._example(text, session) for text, session in zip(texts, sessions, strict=True)]
        rate = self._rate(step, config.learning_rate)
        negatives = self._negatives(step, config.catalogue_negatives)
        update = await asyncio.to_thread(learner.update, examples, rate, negatives)
        self._stale_rewards = True
        return Progress(
            **self._position(step),
            loss=update.loss,
            gradient_norm=update.gradient_norm,
            accuracy=update.accuracy,
            learning_rate=rate,
            seconds_rollouts=sampled - started,
            seconds_rewards=0.0,
            seconds_update=time.perf_counter() - sampled,
            rollouts=RolloutFigures.of(groups, _history_texts(sessions)) if groups else None,
        )

    async def _rlso(self, step: Step) -> Progress:
        """Algorithm 1, lines 12 and 13."""
        learner = _present(self.learners.policy)
        config = self.config.rlso
        if step.number % config.batches == 0:
            learner.begin_outer_iteration()
        sessions = self._batch(step, config.histories)
        started = time.perf_counter()
        groups = await self._sample(step, sessions, config.samples)
        sampled = time.perf_counter()
        quality = await self._quality(groups, sessions)
        ranked = time.perf_counter()
        rate = self._rate(step, config.learning_rate)
        update = await asyncio.to_thread(learner.update, groups, quality, rate)
        self._stale_rollouts = True
        return Progress(
            **self._position(step),
            loss=update.losses[-1],
            first_loss=update.losses[0],
            gradient_norm=update.gradient_norms[0],
            learning_rate=rate,
            seconds_rollouts=sampled - started,
            seconds_rewards=ranked - sampled,
            seconds_update=time.perf_counter() - ranked,
            rollouts=RolloutFigures.of(groups, _history_texts(sessions)),
            reward_mean=quality.mean().item(),
            reward_std=quality.std(correction=0).item(),
            kl=update.kl,
            logprob_gap=logprob_gap(groups, update.behaviour),
        )

    async def _sample(self, step: Step, sessions: Sequence[Session], samples: int) -> list[RolloutGroup]:
        """Rollouts of the current policy for each session's history."""
        source = _present(self.sources.rollouts)
        if self._stale_rollouts:
            self._expected_version = self.versions["encoder"] = await source.use(_present(self.learners.policy))
            self._stale_rollouts = False
        groups = await source.sample(
            [session.history for session in sessions],
            samples=samples,
            max_new_tokens=self.config.rlso.max_new_tokens,
            seed=generation_seed(self.config.seed, step),
        )
        versions = {group.encoder_version for group in groups}
        if len(groups) != len(sessions) or len(versions) != 1 or self._expected_version not in (None, *versions):
            raise Internal(f"{len(sessions)} groups of {self._expected_version} asked, {len(groups)} of {sorted(versions)} given")
        return groups

    async def _quality(self, groups: Sequence[RolloutGroup], sessions: Sequence[Session]) -> Tensor:
        """U [B, G] of every rollout, float32; Gamma where it did not terminate or wrote nothing, which no one is asked about."""
        source = _present(self.sources.rewards)
        if self._stale_rewards:
            self.versions["decoder"] = await source.use(_present(self.learners.embedder))
            self._stale_rewards = False
        config = self.config.rlso
        flat = [(rollout, session) for group, session in zip(groups, sessions, strict=True) for rollout in group.rollouts]
        valued = torch.tensor([rollout.finish_reason == "stop" and bool(rollout.text.strip()) for rollout, _ in flat])
        queries = [
            RankQuery(rollout.text, session.target_item_ids, _history_ids(session))
            for (rollout, session), asked in zip(flat, valued.tolist(), strict=True)
            if asked
        ]
        ranks = await source.ranks(queries) if queries else []
        qualities = [ranking_quality(places, config.cutoff) for places in ranks]
        quality = torch.zeros(len(flat))
        quality[valued] = torch.tensor([value.ndcg if config.metric == "ndcg" else value.mrr for value in qualities])
        return with_truncation(quality, valued, config.truncated_reward).view(len(groups), -1)

    def _batch(self, step: Step, size: int) -> list[Session]:
        positions = batch_positions(self.config.seed, step.phase, step.number, size, len(self.sessions))
        return [self.sessions[at] for at in positions]

    def _negatives(self, step: Step, count: int) -> dict[str, str]:
        """The texts of up to `count` items, drawn evenly from the catalogue."""
        positions = negative_positions(self.config.seed, step, count, len(self._item_ids))
        drawn = [self._item_ids[at] for at in positions]
        return {item_id: item_text(self.items[item_id]) for item_id in drawn}

    def _example(self, text: str, session: Session) -> ContrastiveExample:
        target, *others = session.target_item_ids
        return ContrastiveExample(text, target, item_text(self.items[target]), {*_history_ids(session), *others})

    def _rate(self, step: Step, rate: float) -> float:
        return linear_decay(rate, step.number, sum(other.phase == step.phase for other in self.plan))

    def _position(self, step: Step) -> dict[str, Any]:
        return {"step": self.done + 1, "total": len(self.plan), "phase": step.phase, "outer": step.outer}

    def _check(self) -> None:
        phases = {step.phase for step in self.plan}
        needed = {
            "learners.policy": "rlso" in phases and self.learners.policy is None,
            "learners.embedder": "cl" in phases and self.learners.embedder is None,
            "sources.rollouts": bool(phases) and self.config.profile_source == "profile" and self.sources.rollouts is None,
            "sources.rewards": "rlso" in phases and self.sources.rewards is None,
            "training sessions": bool(phases) and not self.sessions,
        }
        for name in (name for name, missing in needed.items() if missing):
            raise FailedPrecondition(f"this plan needs {name}", reason="INCOMPLETE_JOB")
        for session in self.sessions:
            unknown = [item_id for item_id in session.target_item_ids if item_id not in self.items]
            if unknown or not session.target_item_ids:
                problem = f"unknown targets {unknown}" if unknown else "no target"
                raise FailedPrecondition(f"session of user {session.user_id!r} has {problem}", reason="BAD_DATA")

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, in parts (`checkpoint`): run, policy, embedder, random.

        The learning rate and every seed are functions of the configuration and the position (`schedule`), and have no state.
        """
        return {
            "run": {
                "config": self._learnt_from(),
                "done": self.done,
                "next": asdict(self.plan[self.done]) if self.done < len(self.plan) else None,
                "versions": dict(self.versions),
                "guards": self._guards.state_dict(),
                "rewards": list(self._rewards),
            },
            "policy": self.learners.policy.state_dict() if self.learners.policy else None,
            "embedder": self.learners.embedder.state_dict() if self.learners.embedder else None,
            "random": random_state(),
        }

    def _learnt_from(self) -> dict[str, Any]:
        """The configuration as far as the weights follow from it."""
        return self.config.model_dump(mode="json", exclude={"guards"})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`. Raises FailedPrecondition if it belongs to another configuration or another plan."""
        run = state["run"]
        if run["config"] != self._learnt_from():
            raise FailedPrecondition("the checkpoint belongs to another configuration", reason="OTHER_CONFIGURATION")
        self.done = run["done"]
        if run["next"] != (asdict(self.plan[self.done]) if self.done < len(self.plan) else None):
            raise FailedPrecondition(f"the checkpoint's next step {run['next']} is not the plan's", reason="OTHER_CONFIGURATION")
        if self.learners.policy:
            self.learners.policy.load_state_dict(state["policy"])
        if self.learners.embedder:
            self.learners.embedder.load_state_dict(state["embedder"])
        past = {step.phase for step in self.plan[: self.done]}
        self._guards.load_state_dict(run["guards"])
        self._rewards.extend(run["rewards"])
        self.versions = dict(run["versions"])
        self._expected_version = None
        self._stale_rollouts, self._stale_rewards = "rlso" in past, "cl" in past
        restore_random_state(state["random"])


def _history_texts(sessions: Sequence[Session]) -> list[str]:
    return [history_text(session.history) for session in sessions]


def _history_ids(session: Session) -> tuple[str, ...]:
    return tuple(entry.item.item_id for entry in session.history)


def _present(part: Part | None) -> Part:
    """`_check` has made sure of it."""
    assert part is not None
    return part
