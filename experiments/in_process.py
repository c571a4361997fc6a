"""The learning core's two doors in one process: the policy samples for itself, the embedder ranks for itself.

For experiments and benchmarks that train many times: no services, no transport, no copies of weights. The sampling loop,
the losses and the ranks are the services' own code, so what is learnt is what a job learns, up to the random numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from langptune.domain import Interaction, Item, Session
from langptune.errors import FailedPrecondition
from langptune.ranking import exact_ranks
from langptune.text import DEFAULT_DOMAIN, item_text, prompt_text
from services.encoder.engines.decoding import Batch, Draft, Task
from services.trainer.learning.algorithm import Algorithm, Learners, Sources
from services.trainer.learning.config import LearningConfig
from services.trainer.learning.embedder import Embedder, EmbedderLearner
from services.trainer.learning.policy import Policy
from services.trainer.learning.policy_learner import PolicyLearner
from services.trainer.learning.ports import RankQuery, Rollout, RolloutGroup, Saveable

ROWS = 64  # rows sampled at a time


@dataclass(frozen=True, slots=True)
class ModelNames:
    """Where the two models come from: a folder each, or a hub id."""

    encoder: str
    embedder: str


@dataclass(frozen=True)
class Material:
    """What is trained on."""

    items: Mapping[str, Item]
    train: Sequence[Session]
    domain: str = DEFAULT_DOMAIN


class OwnRollouts:
    """A RolloutSource that samples from the learning policy itself."""

    def __init__(self, policy: Policy, domain: str = DEFAULT_DOMAIN) -> None:
        self._policy = policy
        self._domain = domain
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
        groups = self.draw(histories, samples, max_new_tokens, seed)
        self.tokens += sum(len(rollout.token_ids) for group in groups for rollout in group.rollouts)
        return groups

    def draw(
        self, histories: Sequence[Sequence[Interaction]], samples: int, max_new_tokens: int, seed: int
    ) -> list[RolloutGroup]:
        """Rollouts by the encoder's sampling loop, about ROWS of them at a time; not counted."""
        policy = self._policy
        prompts = [self._prompt_ids(history) for history in histories]
        waiting = deque(Task(prompt, samples, max_new_tokens, 1.0, seed, stream) for stream, prompt in enumerate(prompts))
        batch = Batch(policy.causal_lm, frozenset({int(policy.causal_lm.config.eos_token_id)}))
        drafts: list[Draft] = []
        while waiting or batch.rows:
            while waiting and batch.rows < ROWS:
                drafts.append(batch.join(waiting.popleft()))
            if batch.rows:
                batch.step()
        return [RolloutGroup(tuple(draft.task.prompt_ids), _rollouts(policy, draft), str(self._updates)) for draft in drafts]

    def _prompt_ids(self, history: Sequence[Interaction]) -> list[int]:
        tokenizer = self._policy.tokenizer
        messages = [{"role": "user", "content": prompt_text(history, self._domain)}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return list(tokenizer(str(text), add_special_tokens=False)["input_ids"])


def _rollouts(policy: Policy, draft: Draft) -> tuple[Rollout, ...]:
    texts = [str(policy.tokenizer.decode(sample.token_ids, skip_special_tokens=True)).strip() for sample in draft.samples]
    return tuple(
        Rollout(tuple(sample.token_ids), text, sample.finish_reason or "length", tuple(sample.log_probs))
        for sample, text in zip(draft.samples, texts, strict=True)
    )


class OwnRewards:
    """A RewardSource that ranks with the learning embedder itself."""

    def __init__(self, embedder: Embedder, items: Mapping[str, Item]) -> None:
        self._embedder = embedder
        self._texts = [item_text(item) for item in items.values()]
        self._positions = {item_id: at for at, item_id in enumerate(items)}
        self._vectors = self.embed(self._texts)  # [items, D]

    async def use(self, embedder: Saveable) -> str:
        """Embed the catalogue anew."""
        self.refresh()
        return ""

    def refresh(self) -> None:
        """Embed the catalogue with the weights as they are now."""
        self._vectors = self.embed(self._texts)

    async def ranks(self, queries: Sequence[RankQuery]) -> list[tuple[int, ...]]:
        """Exact ranks over the whole catalogue, the history left out."""
        scores = self.similarities([query.profile for query in queries])
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

    def similarities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[texts, items], cosines."""
        return np.asarray(self.embed(texts) @ self._vectors.T)

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[texts, D], unit vectors."""
        return np.asarray(self._embedder.embed(texts).numpy(), dtype=np.float32)


class Trainee:
    """The models and the algorithm that trains them, all in this process. NoProfile has no encoder, and none is loaded."""

    def __init__(self, config: LearningConfig, material: Material, models: ModelNames) -> None:
        self.config = config
        self.embedder = Embedder.load(models.embedder, config.contrastive.micro_rows)
        self.rewards = OwnRewards(self.embedder, material.items)
        embedding = EmbedderLearner(self.embedder, config.contrastive)
        self.policy = Policy.load(models.encoder, config.rlso) if config.profile_source == "profile" else None
        self.rollouts = OwnRollouts(self.policy, material.domain) if self.policy else None
        writing = PolicyLearner(self.policy, config.rlso) if self.policy else None
        sources = Sources(self.rollouts, self.rewards)
        self.algorithm = Algorithm(config, material.train, material.items, Learners(writing, embedding), sources)

    def write(self, histories: Sequence[Sequence[Interaction]], samples: int, seed: int) -> list[tuple[Rollout, ...]]:
        """`samples` profiles for each history, at temperature 1. Raises FailedPrecondition where there is no encoder."""
        if self.rollouts is None:
            raise FailedPrecondition("NoProfile writes no profiles", reason="NO_ENCODER")
        groups = self.rollouts.draw(histories, samples, self.config.rlso.max_new_tokens, seed)
        return [group.rollouts for group in groups]

    @property
    def tokens(self) -> int:
        """Sampled for training so far, EOS included."""
        return self.rollouts.tokens if self.rollouts else 0
