"""One RLSO update: behaviour log-probs, rewards, and `epochs` optimizer steps over one batch of rollouts (Section 3.2.1).

There is one optimizer step per epoch, so the first epoch's forward pass gives the behaviour log-probs. Only when the reward
has a KL term (gamma > 0) must they be known before it, which costs a pass without gradients. The reference policy costs another;
without a KL term it is only for the figure, and `measure_kl` turns it off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from langptune.weights.golden import Golden
from services.trainer.learning.config import RlsoConfig
from services.trainer.learning.packing import micro_batches
from services.trainer.learning.parallel import ALONE, Parallel, share
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
    kl: float | None  # mean of ln pi_t(p) - ln pi_0(p), nats per rollout; None when it is neither used nor measured


class PolicyLearner:
    """The policy with the one optimizer that moves it and, unless nobody asks for the KL, the reference policy."""

    def __init__(self, policy: Policy, config: RlsoConfig, parallel: Parallel = ALONE) -> None:
        self.policy = policy
        self.config = config
        self.parallel = parallel
        self.stepper = parallel.stepper(
            policy.wrapped, policy.sequence_logprobs, policy.trainable(), config.learning_rate, config.weight_decay
        )
        self._refers = config.gamma > 0 or config.measure_kl
        if self._refers:
            self.stepper.keep_reference()

    def begin_outer_iteration(self) -> None:
        """Algorithm 1, line 10: pi_0 <- pi, where `kl_reference` is iteration."""
        if self._refers and self.config.kl_reference == "iteration":
            self.stepper.keep_reference()

    def update(self, groups: Sequence[RolloutGroup], quality: Tensor, rate: float) -> PolicyUpdate:
        """`epochs` steps at learning rate `rate` on `groups` [B] with ranking quality U, Gamma included, [B, G].

        Every process is given the whole batch, passes its share of it through the model, and returns the same.
        """
        own = share(self.parallel, len(groups))
        parts = self._parts(groups[own])
        reference = self._reference(quality[own], parts)  # [B, G]
        rewards, behaviour = self._rewards(quality, own, reference, parts)
        losses, norms = [], []
        for _ in range(self.config.epochs):
            loss, logprobs = self._epoch(rewards, behaviour, parts, len(groups))
            behaviour = logprobs if behaviour is None else behaviour
            losses.append(self.parallel.total(loss))
            norms.append(self.stepper.step(rate))
        assert behaviour is not None  # config.epochs >= 1
        sampled = self._all(behaviour)  # [B, G]
        kl = None if reference is None else (sampled - reference).mean().item()
        return PolicyUpdate(tuple(losses), tuple(norms), sampled, kl)

    def _parts(self, groups: Sequence[RolloutGroup]) -> list[Part]:
        """Laid out once for all epochs and the reference; frozen layers, too, run once.

        Equally many in every process, because all pass through the model together.
        """
        parts = micro_batches(groups, self.config.micro_tokens)
        count = self.parallel.largest(len(parts))
        while len(parts) < count:
            longest = parts.pop(parts.index(max(parts, key=len)))
            parts += [longest[: len(longest) // 2], longest[len(longest) // 2 :]]
        batches = [self.policy.batch([groups[at] for at in part]) for part in parts]
        for batch in batches:
            batch.chunks = self.parallel.largest(batch.chunks)
        return list(zip(parts, batches, strict=True))

    def _reference(self, like: Tensor, parts: list[Part]) -> Tensor | None:
        """ln pi_0 of the rollouts of the whole batch, if there is a reference."""
        if not self._refers:
            return None
        with self.stepper.reference():
            return self._all(self._logprobs(like, parts))

    def _rewards(self, quality: Tensor, own: slice, reference: Tensor | None, parts: list[Part]) -> tuple[Tensor, Tensor | None]:
        """Rewards of this share; and its behaviour log-probs, known by now only when gamma > 0."""
        rewards, behaviour = quality, None
        if self.config.gamma > 0:
            assert reference is not None  # `_refers`
            behaviour = self._logprobs(quality[own], parts)
            rewards = with_kl_penalty(rewards, self._all(behaviour), reference, self.config.gamma)
        return (standardised(rewards) if self.config.standardise else rewards)[own], behaviour

    def _all(self, rows: Tensor) -> Tensor:
        """The rows of all processes, on the CPU."""
        return self.parallel.gather(rows.to(self.policy.device)).cpu()

    @torch.no_grad()
    def _logprobs(self, like: Tensor, parts: list[Part]) -> Tensor:
        logprobs = torch.empty_like(like)
        for places, batch in parts:
            logprobs[places] = self.stepper.forward(batch).cpu()
        return logprobs

    def _epoch(self, rewards: Tensor, behaviour: Tensor | None, parts: list[Part], batch_size: int) -> tuple[float, Tensor]:
        """Gradients of this share of the mean loss over the whole batch, part by part; returns that loss and the log-probs."""
        total, seen = 0.0, torch.empty_like(rewards)
        for at, (places, batch) in enumerate(parts, 1):
            logprobs = self.stepper.forward(batch)
            seen[places] = logprobs.detach().cpu()
            sampled = (seen if behaviour is None else behaviour)[places].to(logprobs.device)
            loss = rlso_loss(logprobs, sampled, rewards[places].to(logprobs.device), self.config.eta).sum() / batch_size
            self.stepper.backward(loss, last=at == len(parts))
            total += loss.item()
        return total, seen

    def state_dict(self) -> dict[str, Any]:
        """The parameters that learn, the optimizer, and the reference's parameters if there is one."""
        return self.stepper.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The opposite of `state_dict`, on a policy loaded from the same base."""
        self.stepper.load_state_dict(state)

    @torch.no_grad()
    def golden(self) -> Golden:
        """The fixed text and its log-prob under the weights as they are now; every process takes part."""
        group = self.policy.golden_text()
        log_prob = self.stepper.forward(self.policy.batch([group])).item()
        return Golden(group.prompt_token_ids, group.rollouts[0].token_ids, log_prob)

    def save(self, folder: Path) -> None:
        """The policy's whole folder (`Saveable`)."""
        self.stepper.save(lambda weights: self.policy.save(folder, weights))
