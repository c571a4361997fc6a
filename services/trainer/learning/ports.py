"""The two doors through which the learning core sees the world: where rollouts come from, and where ranks come from.

In a job they are the encoder and the decoder service behind gRPC; in a unit test they are a few lines in the same process.
The learning core knows no transport, no service and no storage beyond `Saveable.save`. Implementations raise the errors of
`langptune.errors`, which pass through the algorithm untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from langptune.domain import Interaction
from langptune.weights.golden import Golden

FinishReason = Literal["stop", "length"]
History = Sequence[Interaction]  # h: oldest first


@dataclass(frozen=True, slots=True)
class Rollout:
    """One profile p ~ pi_t(.|D(h)), sampled at temperature 1 with no top-p and no top-k."""

    token_ids: tuple[int, ...]  # the response; its last token is EOS if and only if finish_reason is "stop"
    text: str  # the profile as it is embedded (no special tokens)
    finish_reason: FinishReason  # "length": cut at max_new_tokens, and so rewarded with Gamma
    engine_logprobs: tuple[float, ...] = ()  # the engine's own, nats per token; empty if it gives none. A check, never b_g


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """The G rollouts of one history. One prompt and one weights version for all of them."""

    prompt_token_ids: tuple[int, ...]  # the rendered chat prompt, at least one token
    rollouts: tuple[Rollout, ...]  # [G]
    encoder_version: str  # the behaviour version: the weights that sampled all of `rollouts`


@dataclass(frozen=True, slots=True)
class RankQuery:
    """One question to the recommender decoder: where do the targets stand for this profile?"""

    profile: str  # empty where `history` stands for it
    target_item_ids: tuple[str, ...]  # f, at least one
    excluded_item_ids: tuple[str, ...]  # the history's items, masked out of the ranking
    history: History = ()  # NoProfile: D(h) itself is the query


class Saveable(Protocol):
    """A model that can be written as a complete, ordinary folder: the policy, or the embedder."""

    def save(self, folder: Path) -> None:
        """Write the whole model and its tokenizer in its library's own format (adapters merged); `folder` may not exist yet."""


class Scorable(Saveable, Protocol):
    """A policy that can say how probable a text is, so that an engine which serves its weights can be held against it."""

    def golden(self) -> Golden:
        """The fixed text, in tokens, and its log-prob."""


class RolloutSource(Protocol):
    """Samples from the policy (the encoder service)."""

    async def use(self, policy: Scorable) -> str:
        """Sample from these weights from now on; returns the behaviour version that `sample` will report."""

    async def sample(self, histories: Sequence[History], *, samples: int, max_new_tokens: int, seed: int) -> list[RolloutGroup]:
        """`samples` rollouts for each history, in order. The same seed and weights give the same rollouts."""


class RewardSource(Protocol):
    """Ranks exactly, over the whole catalogue (the decoder service)."""

    async def use(self, embedder: Saveable) -> str:
        """Embed catalogue and profiles with these weights from now on; returns the decoder version."""

    async def ranks(self, queries: Sequence[RankQuery]) -> list[tuple[int, ...]]:
        """For each query the rank of each of its targets: `1 + #{i : sim_i > sim_target}` over all items not excluded."""
