"""The learning core's two doors in one process: the policy samples for itself, the embedder ranks for itself.

For benchmarks that train many times on the sample world: no services, no transport, no copies of weights. The sampling loop,
the losses and the ranks are the services' own code, so what is learnt is what a job learns, up to the random numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from langptune.domain import Interaction, Item, Session
from langptune.ranking import exact_ranks, ranking_quality
from langptune.text import history_text, item_text, prompt_text
from samples.dataset import DEFAULT_USERS, world_sessions
from samples.measure import ProfileQuality, measure_profiles
from samples.models import EMBEDDER, MODELS_FOLDER, WRITER
from samples.world import DEFAULT_ITEMS, make_catalogue
from services.encoder.engines.decoding import Batch, Draft, Task
from services.trainer.learning.algorithm import Algorithm, Learners, Sources
from services.trainer.learning.config import LearningConfig
from services.trainer.learning.embedder import Embedder, EmbedderLearner
from services.trainer.learning.policy import Policy
from services.trainer.learning.policy_learner import PolicyLearner
from services.trainer.learning.ports import RankQuery, Rollout, RolloutGroup, Saveable

ROWS = 64  # texts embedded, or rows sampled, at a time
CUTOFF = 20  # Section 4.1


@dataclass(frozen=True)
class World:
    """One sample world in memory."""

    items: dict[str, Item]
    splits: dict[str, list[Session]]

    @classmethod
    def of(cls, seed: int, users: int = DEFAULT_USERS, items: int = DEFAULT_ITEMS) -> World:
        """The world that `samples.dataset.make_dataset` would write for `seed`."""
        catalogue = make_catalogue(items, seed)
        splits: dict[str, list[Session]] = {"train": [], "validation": [], "test": []}
        for session in world_sessions(catalogue, users, seed):
            splits[session.split].append(session)
        return cls({item.item_id: item for item in catalogue.items}, splits)


class OwnRollouts:
    """A RolloutSource that samples from the learning policy itself."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._updates = 0
        self.tokens = 0  # sampled so far, EOS included

    async def use(self, policy: Saveable) -> str:
        """The weights are the policy's own already: only the version's name is new."""
        self._updates += 1
        return str(self._updates)

    async def sample(
        self, histories: Sequence[Sequence[Interaction]], *, samples: int, max_new_tokens: int, seed: int
    ) -> list[RolloutGroup]:
        """`samples` rollouts for each history; the same seed and weights give the same."""
        groups = sample_groups(self._policy, histories, samples, max_new_tokens, seed, str(self._updates))
        self.tokens += sum(len(rollout.token_ids) for group in groups for rollout in group.rollouts)
        return groups


def sample_groups(
    policy: Policy, histories: Sequence[Sequence[Interaction]], samples: int, max_new_tokens: int, seed: int, version: str = ""
) -> list[RolloutGroup]:
    """Rollouts by the encoder's sampling loop, about ROWS of them at a time."""
    prompts = [_prompt_ids(policy, history) for history in histories]
    waiting = deque(Task(prompt, samples, max_new_tokens, 1.0, seed, stream) for stream, prompt in enumerate(prompts))
    batch = Batch(policy.causal_lm, frozenset({int(policy.causal_lm.config.eos_token_id)}))
    drafts: list[Draft] = []
    while waiting or batch.rows:
        while waiting and batch.rows < ROWS:
            drafts.append(batch.join(waiting.popleft()))
        if batch.rows:
            batch.step()
    return [RolloutGroup(tuple(draft.task.prompt_ids), _rollouts(policy, draft), version) for draft in drafts]


def _rollouts(policy: Policy, draft: Draft) -> tuple[Rollout, ...]:
    texts = [str(policy.tokenizer.decode(sample.token_ids, skip_special_tokens=True)).strip() for sample in draft.samples]
    return tuple(
        Rollout(tuple(sample.token_ids), text, sample.finish_reason or "length", tuple(sample.log_probs))
        for sample, text in zip(draft.samples, texts, strict=True)
    )


def _prompt_ids(policy: Policy, history: Sequence[Interaction]) -> list[int]:
    messages = [{"role": "user", "content": prompt_text(history)}]
    text = policy.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return list(policy.tokenizer(str(text), add_special_tokens=False)["input_ids"])


class OwnRewards:
    """A RewardSource that ranks with the learning embedder itself."""

    def __init__(self, embedder: Embedder, items: dict[str, Item]) -> None:
        self._embedder = embedder
        self._texts = [item_text(item) for item in items.values()]
        self._positions = {item_id: at for at, item_id in enumerate(items)}
        self._vectors = self._embed(self._texts)  # [items, D]

    async def use(self, embedder: Saveable) -> str:
        """Embed the catalogue anew."""
        self._vectors = self._embed(self._texts)
        return ""

    async def ranks(self, queries: Sequence[RankQuery]) -> list[tuple[int, ...]]:
        """Exact ranks over the whole catalogue, the history left out."""
        scores = self._embed([query.profile for query in queries]) @ self._vectors.T  # [queries, items]
        return [
            tuple(
                exact_ranks(
                    row,
                    [self._positions[item_id] for item_id in query.target_item_ids],
                    [self._positions[item_id] for item_id in query.excluded_item_ids],
                )
            )
            for row, query in zip(scores, queries, strict=True)
        ]

    @torch.no_grad()
    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self._embedder.embed(texts).numpy(), dtype=np.float32)


@dataclass(frozen=True)
class Found:
    """What the two models are worth together on some users."""

    ndcg: NDArray[np.float64]  # [users] NDCG@20, the mean of each user's profiles
    quality: ProfileQuality | None  # None where the history stands for the profile
    tokens: float  # per profile, EOS included

    def row(self) -> dict[str, float | int]:
        """As flat values."""
        figures = {"ndcg": float(self.ndcg.mean()), "users": len(self.ndcg), "tokens_per_profile": self.tokens}
        return figures | (self.quality.to_dict() if self.quality else {})


class Trainee:
    """Both models and the algorithm that trains them, all in this process."""

    def __init__(self, config: LearningConfig, world: World, models: Path = MODELS_FOLDER) -> None:
        self.world = world
        self.config = config
        self.policy = Policy.load(models / WRITER, config.rlso)
        self.embedder = Embedder.load(models / EMBEDDER, config.contrastive.micro_rows)
        self.rollouts = OwnRollouts(self.policy)
        self.rewards = OwnRewards(self.embedder, world.items)
        learners = Learners(PolicyLearner(self.policy, config.rlso), EmbedderLearner(self.embedder, config.contrastive))
        sources = Sources(self.rollouts, self.rewards)
        self.algorithm = Algorithm(config, world.splits["train"], world.items, learners, sources)

    async def measure(self, sessions: Sequence[Session], seed: int, samples: int = 1) -> Found:
        """NDCG@20 and the quality of `samples` profiles for each session, or of the raw histories for NoProfile."""
        await self.rewards.use(self.embedder)
        quality, tokens = None, 0.0
        texts = [[history_text(session.history)] for session in sessions]
        if self.config.profile_source == "profile":
            histories = [session.history for session in sessions]
            groups = sample_groups(self.policy, histories, samples, self.config.rlso.max_new_tokens, seed)
            texts = [[rollout.text for rollout in group.rollouts] for group in groups]
            pairs = [(session.history, text) for session, each in zip(sessions, texts, strict=True) for text in each]
            quality = measure_profiles(pairs)
            tokens = float(np.mean([len(rollout.token_ids) for group in groups for rollout in group.rollouts]))
        queries = [_query(text, session) for session, each in zip(sessions, texts, strict=True) for text in each]
        gains = [ranking_quality(ranks, CUTOFF).ndcg for ranks in await self.rewards.ranks(queries)]
        return Found(np.array(gains).reshape(len(sessions), -1).mean(axis=1), quality, tokens)


def _query(text: str, session: Session) -> RankQuery:
    return RankQuery(text, session.target_item_ids, tuple(entry.item.item_id for entry in session.history))
