"""The plain side of `benchmarks.learning`: one LM update in the compute pattern of the paper's research code.

Every sample is generated alone from its own copy of the prompt, padded to the prompt limit, for the full number of new tokens,
EOS forbidden, by the model that trains (adapters not merged). Behaviour and reference log-probs each take a pass of their own;
all passes are over full rows, give float32 logits of every position over the whole vocabulary, and run the frozen layers again.
A reward sorts the whole catalogue and looks for the target in the sorted rows. Losses and rewards are our own pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from benchmarks.learning_shapes import Catalogue, Shape
from services.trainer.learning.optimizer import adamw
from services.trainer.learning.ports import RolloutGroup
from services.trainer.learning.rlso import rlso_loss, standardised, with_kl_penalty
from services.trainer.learning.trainable import choose_trainable


@dataclass(frozen=True, slots=True)
class Rows:
    """One row per sample: the prompt padded left to its limit, the response padded right to its own."""

    ids: Tensor  # [rows, width]
    mask: Tensor  # [rows, width] 1: a token
    positions: Tensor  # [rows, width]
    response: Tensor  # [rows, width - 1] 1: the token after this place belongs to the response


class PlainLearner:
    """A model with its optimizer, and its own copy of what the reference policy needs."""

    def __init__(self, model: PreTrainedModel, shape: Shape) -> None:
        self.shape = shape
        self.causal_lm = model
        self.model = choose_trainable(model, shape.rlso()).eval()
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.base = [parameter.detach().clone() for parameter in self.parameters]
        self.optimizer = adamw(self.parameters, shape.rlso().learning_rate, shape.rlso().weight_decay)

    def generate(self, prompts: Sequence[tuple[int, ...]]) -> Tensor:
        """[prompts x samples, response limit] tokens."""
        rows = [prompt for prompt in prompts for _ in range(self.shape.samples)]
        width = self.shape.prompt_limit
        device = self.causal_lm.device
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in rows], device=device)
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in rows], device=device)
        count = self.shape.response_limit
        settings = GenerationConfig(
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            eos_token_id=self.causal_lm.config.eos_token_id,
            pad_token_id=0,
        )
        with torch.inference_mode():
            written: Tensor = self.causal_lm.generate(  # type: ignore[operator]  # a mixin's, taken for a tensor
                input_ids=ids, attention_mask=mask, generation_config=settings
            )
        return written[:, width:]

    @torch.no_grad()
    def score(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Behaviour and reference log-probs [B, G]: two passes."""
        behaviour = self._logprobs_of_all(rows)
        if isinstance(self.model, PeftModel):
            with self.model.disable_adapter():
                return behaviour, self._logprobs_of_all(rows)
        own = [parameter.data for parameter in self.parameters]
        for parameter, value in zip(self.parameters, self.base, strict=True):
            parameter.data = value
        reference = self._logprobs_of_all(rows)
        for parameter, value in zip(self.parameters, own, strict=True):
            parameter.data = value
        return behaviour, reference

    def learn(self, rows: Rows, quality: Tensor, behaviour: Tensor, reference: Tensor) -> list[float]:
        """Four epochs, one optimizer step each, one history at a time; the losses before each step."""
        config = self.shape.rlso()
        rewards = standardised(with_kl_penalty(quality, behaviour, reference, config.gamma))
        losses = []
        for _ in range(config.epochs):
            self.optimizer.zero_grad()
            total = 0.0
            for at in range(len(quality)):
                logprobs = self._logprobs(rows, at)[None]
                sampled, reward = behaviour[at : at + 1].to(logprobs.device), rewards[at : at + 1].to(logprobs.device)
                loss = rlso_loss(logprobs, sampled, reward, config.eta).sum() / len(quality)
                torch.autograd.backward(loss)
                total += loss.item()
            losses.append(total)
            self.optimizer.step()
        return losses

    def _logprobs_of_all(self, rows: Rows) -> Tensor:
        return torch.stack([self._logprobs(rows, at).cpu() for at in range(len(rows.ids) // self.shape.samples)])

    def _logprobs(self, rows: Rows, at: int) -> Tensor:  # [G]
        own = slice(at * self.shape.samples, (at + 1) * self.shape.samples)
        model: nn.Module = self.model
        output = model(input_ids=rows.ids[own], attention_mask=rows.mask[own], position_ids=rows.positions[own], use_cache=False)
        logprobs = output.logits.float()[:, :-1].log_softmax(dim=-1)  # [G, width - 1, vocabulary]
        chosen = logprobs.gather(2, rows.ids[own, 1:, None]).squeeze(2)
        sums: Tensor = (chosen * rows.response[own]).sum(dim=1)
        return sums


def plain_rows(groups: Sequence[RolloutGroup], shape: Shape, device: torch.device) -> Rows:
    """Every row as wide as both limits together."""
    ids, mask, response = [], [], []
    for group in groups:
        for rollout in group.rollouts:
            before = shape.prompt_limit - len(group.prompt_token_ids)
            after = shape.response_limit - len(rollout.token_ids)
            ids.append([0] * before + [*group.prompt_token_ids, *rollout.token_ids] + [0] * after)
            mask.append([0] * before + [1] * (len(group.prompt_token_ids) + len(rollout.token_ids)) + [0] * after)
            response.append([0] * (shape.prompt_limit - 1) + [1] * len(rollout.token_ids) + [0] * after)
    masks = torch.tensor(mask, device=device)
    positions = (masks.cumsum(1) - 1).clamp(min=0)
    return Rows(torch.tensor(ids, device=device), masks, positions, torch.tensor(response, device=device))


def plain_quality(catalogue: Catalogue, profiles: int) -> Tensor:
    """NDCG [profiles]: similarities, a full sort of the catalogue, the place of the label in it, discounted gains."""
    items, queries = torch.from_numpy(catalogue.items), torch.from_numpy(catalogue.profiles[:profiles])
    labels = torch.tensor(catalogue.targets[:profiles])[:, None]  # [B, L], L = 1
    scores = queries @ items.T
    scores.scatter_(1, torch.tensor(catalogue.histories[:profiles]), -torch.inf)
    order = scores.argsort(dim=1, descending=True)  # [B, N]
    hits = (order[:, :, None] == labels[:, None, :]).any(dim=2).float()  # [B, N, L] -> [B, N]
    discounts = 1 / torch.log2(torch.arange(order.shape[1]) + 2.0)
    return (hits * discounts).sum(dim=1)
