"""One RLSO update: behaviour log-probs, rewards, and `epochs` optimizer steps over one batch of rollouts (Section 3.2.1).

There is one optimizer step per epoch, so the first epoch's forward pass gives the behaviour log-probs. Only when the reward
has a KL term (gamma > 0) must they be known before it, which costs a pass without gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from services.trainer.learning.config import RlsoConfig
from services.trainer.learning.optimizer import adamw, gradient_norm, set_rate
from services.trainer.learning.packing import micro_batches
from services.trainer.learning.policy import Batch, Policy
from services.trainer.learning.ports import RolloutGroup
from services.trainer.learning.rlso import rlso_loss, standardised, with_kl_penalty

Part = tuple[list[int], Batch]  # which of the groups, and their layout


@dataclass(frozen=True, slots=True)
class PolicyUpdate:
    """What one RLSO batch did."""

    losses: tuple[float, ...]  # per epoch, mean over histories, before that epoch's step
    gradient_norms: tuple[float, ...]  # per epoch
    behaviour: Tensor  # [B, G] ln pi_t(p), nats
    kl: float | None  # mean of ln pi_t(p) - ln pi_0(p), nats per rollout; None when gamma is 0


class PolicyLearner:
    """The policy with the one optimizer that moves it and, when gamma > 0, the reference policy."""

    def __init__(self, policy: Policy, config: RlsoConfig) -> None:
        self.policy = policy
        self.config = config
        self.optimizer = adamw(policy.trainable().values(), config.learning_rate, config.weight_decay)
        self.reference = policy.snapshot() if config.gamma > 0 else None

    def begin_outer_iteration(self) -> None:
        """Algorithm 1, line 10: pi_0 <- pi, where `kl_reference` is iteration."""
        if self.reference is not None and self.config.kl_reference == "iteration":
            self.reference = self.policy.snapshot()

    def update(self, groups: Sequence[RolloutGroup], quality: Tensor, rate: float) -> PolicyUpdate:
        """`epochs` steps at learning rate `rate` on `groups` [B] with ranking quality U, Gamma included, [B, G]."""
        set_rate(self.optimizer, rate)
        parts = self._parts(groups)
        rewards, behaviour, kl = self._rewards(quality, parts)
        losses, norms = [], []
        for _ in range(self.config.epochs):
            loss, logprobs = self._epoch(rewards, behaviour, parts)
            behaviour = logprobs if behaviour is None else behaviour
            losses.append(loss)
            norms.append(gradient_norm(self.policy.trainable().values()))
            self.optimizer.step()
        assert behaviour is not None  # config.epochs >= 1
        return PolicyUpdate(tuple(losses), tuple(norms), behaviour, kl)

    def _parts(self, groups: Sequence[RolloutGroup]) -> list[Part]:
        """Laid out once for all epochs and the reference; frozen layers, too, run once."""
        parts = micro_batches(groups, self.config.micro_tokens)
        return [(part, self.policy.batch([groups[at] for at in part])) for part in parts]

    def _rewards(self, quality: Tensor, parts: list[Part]) -> tuple[Tensor, Tensor | None, float | None]:
        """Rewards [B, G]; and, known only when gamma > 0, behaviour log-probs [B, G] and mean KL."""
        rewards, behaviour, kl = quality, None, None
        if self.reference is not None:
            behaviour = self._logprobs(quality, parts)
            with self.policy.weights(self.reference):
                reference = self._logprobs(quality, parts)
            rewards = with_kl_penalty(rewards, behaviour, reference, self.config.gamma)
            kl = (behaviour - reference).mean().item()
        return (standardised(rewards) if self.config.standardise else rewards), behaviour, kl

    @torch.no_grad()
    def _logprobs(self, like: Tensor, parts: list[Part]) -> Tensor:  # [B, G]
        logprobs = torch.empty_like(like)
        for places, batch in parts:
            logprobs[places] = self.policy.sequence_logprobs(batch).cpu()
        return logprobs

    def _epoch(self, rewards: Tensor, behaviour: Tensor | None, parts: list[Part]) -> tuple[float, Tensor]:
        """Gradients of the mean loss over the whole batch, summed part by part; returns that loss and the log-probs [B, G]."""
        self.optimizer.zero_grad()
        total, seen = 0.0, torch.empty_like(rewards)
        for places, batch in parts:
            logprobs = self.policy.sequence_logprobs(batch)
            seen[places] = logprobs.detach().cpu()
            sampled = (seen if behaviour is None else behaviour)[places].to(logprobs.device)
            loss = rlso_loss(logprobs, sampled, rewards[places].to(logprobs.device), self.config.eta).sum() / len(rewards)
            torch.autograd.backward(loss)
            total += loss.item()
        return total, seen

    def state_dict(self) -> dict[str, Any]:
        """The parameters that learn, the optimizer, and the reference's parameters if there is one."""
        return {"weights": self.policy.snapshot(), "optimizer": self.optimizer.state_dict(), "reference": self.reference}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The opposite of `state_dict`, on a policy loaded from the same base."""
        self.policy.restore(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.reference = state["reference"]
