"""The plain side of `benchmarks.learning`: one LM update in the compute pattern of the paper's research code.

Every sample is generated from its own copy of the prompt, padded to the prompt limit, 8 rows a call, for the full number of new
tokens, EOS forbidden, by the model that trains (adapters not merged). Behaviour and reference log-probs each take a pass of their
own; all passes are over full rows, give float32 logits of every position over the whole vocabulary, and run the frozen layers
again, but for the reference's, which starts from the frozen layers' output of the behaviour pass. Epochs also compute the
entropy. Rewards sort the whole catalogue, look for the targets in the sorted rows and compute four metrics of it. Losses and
the combination of rewards are our own pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from benchmarks.learning_shapes import Catalogue, Shape
from services.trainer.learning.adapters import OneProductLinear
from services.trainer.learning.optimizer import adamw
from services.trainer.learning.parallel import lent
from services.trainer.learning.ports import RolloutGroup
from services.trainer.learning.rlso import rlso_loss, standardised, with_kl_penalty
from services.trainer.learning.trainable import choose_trainable
from services.trainer.learning.trunk import frozen_layers, upper_part

ROWS_PER_CALL = 8  # as the research code has it, of generation and of rewards


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
        for layer in self.model.modules():
            if isinstance(layer, OneProductLinear):
                layer.one_product = False  # peft's own three products
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        named = self.causal_lm.named_parameters()
        self.base = {name: parameter.detach().clone() for name, parameter in named if parameter.requires_grad}
        self.entropies: list[float] = []  # of each gradient pass
        self.optimizer = adamw(self.parameters, shape.rlso().learning_rate, shape.rlso().weight_decay)

    def generate(self, prompts: Sequence[tuple[int, ...]]) -> Tensor:
        """[prompts x samples, response limit] tokens."""
        rows = [prompt for prompt in prompts for _ in range(self.shape.samples)]
        return torch.cat([self._generate(rows[at : at + ROWS_PER_CALL]) for at in range(0, len(rows), ROWS_PER_CALL)])

    def _generate(self, rows: Sequence[tuple[int, ...]]) -> Tensor:
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
        scored = [self._behaviour_and_reference(rows, at) for at in range(len(rows.ids) // self.shape.samples)]
        return torch.stack([behaviour for behaviour, _ in scored]).cpu(), torch.stack(
            [reference for _, reference in scored]
        ).cpu()

    def _behaviour_and_reference(self, rows: Rows, at: int) -> tuple[Tensor, Tensor]:
        if isinstance(self.model, PeftModel):
            behaviour = self._logprobs(rows, at)[0]
            with self.model.disable_adapter():
                return behaviour, self._logprobs(rows, at)[0]
        kept: list[Tensor] = []  # what goes into the first layer that learns
        decoder: PreTrainedModel = self.causal_lm.base_model  # type: ignore[assignment]  # annotated as any module
        depth = frozen_layers(decoder)
        learning = decoder.get_submodule(f"layers.{depth}")
        keeper = learning.register_forward_pre_hook(lambda _layer, states: kept.append(states[0]))
        behaviour = self._logprobs(rows, at)[0]
        keeper.remove()
        with lent(self.causal_lm, self.base):
            own, branch = self._own(rows, at), upper_part(decoder, depth, kept[0])
            masks = {"attention_mask": rows.mask[own], "position_ids": rows.positions[own]}
            states = branch(inputs_embeds=kept[0], **masks, use_cache=False).last_hidden_state
            reference = self._of_logits(self.causal_lm.get_submodule("lm_head")(states), rows, at)[0]
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
                logprobs, logits = self._logprobs(rows, at)
                logprobs = logprobs[None]
                sampled, reward = behaviour[at : at + 1].to(logprobs.device), rewards[at : at + 1].to(logprobs.device)
                loss = rlso_loss(logprobs, sampled, reward, config.eta).sum() / len(quality)
                torch.autograd.backward(loss)
                total += loss.item()
                self.entropies.append(mean_entropy(logits.detach()))
            losses.append(total)
            self.optimizer.step()
        return losses

    def _logprobs(self, rows: Rows, at: int) -> tuple[Tensor, Tensor]:
        """The log-probs of the history's responses [G], and the logits that they come from [G, response limit, vocabulary]."""
        own = self._own(rows, at)
        model: nn.Module = self.model
        output = model(input_ids=rows.ids[own], attention_mask=rows.mask[own], position_ids=rows.positions[own], use_cache=False)
        return self._of_logits(output.logits, rows, at)

    def _of_logits(self, whole: Tensor, rows: Rows, at: int) -> tuple[Tensor, Tensor]:
        start = self.shape.prompt_limit - 1
        logits = whole.float()[:, start:-1]
        chosen = logits.log_softmax(dim=-1).gather(2, rows.ids[self._own(rows, at), start + 1 :, None]).squeeze(2)
        sums: Tensor = (chosen * rows.response[self._own(rows, at), start:]).sum(dim=1)
        return sums, logits

    def _own(self, rows: Rows, at: int) -> slice:
        return slice(at * self.shape.samples, (at + 1) * self.shape.samples)


@torch.no_grad()
def mean_entropy(logits: Tensor) -> float:
    """Of the next token, in nats, over all places of the rows: a figure that the research code logs."""
    return (logits.logsumexp(dim=-1) - (logits.softmax(dim=-1) * logits).sum(dim=-1)).mean().item()


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
    """NDCG [profiles], ROWS_PER_CALL of them at a time as they were generated.

    It is one of four metrics that are computed over the whole sorted catalogue. Histories and targets are rows of zeros and ones
    as wide as the catalogue; similarities are cosines of vectors that are not taken to be of unit length.
    """
    items, queries = torch.from_numpy(catalogue.items), torch.from_numpy(catalogue.profiles[:profiles])
    history, wanted = (torch.zeros(profiles, len(items)) for _ in range(2))  # a part of the data, as both sides have it
    history.scatter_(1, torch.tensor(catalogue.histories[:profiles]), 1.0)
    wanted.scatter_(1, torch.tensor(catalogue.targets[:profiles])[:, None], 1.0)
    calls = zip(*(rows.split(ROWS_PER_CALL) for rows in (queries, history, wanted)), strict=True)
    return torch.cat([_quality(items, *rows) for rows in calls])


def _quality(items: Tensor, queries: Tensor, history: Tensor, wanted: Tensor) -> Tensor:
    scores = _cosines(queries, items) - 1e6 * history
    order = scores.argsort(dim=1, descending=True)  # [B, N]
    counts = wanted.count_nonzero(dim=1)  # L, here 1
    labels = wanted.nonzero()[:, 1].view(len(queries), -1)  # [B, L]
    hits = (order[:, :, None] == labels[:, None, :]).float().sum(dim=2)  # [B, N, L] -> [B, N]
    return _metrics(hits, counts)["ndcg"]


def _cosines(queries: Tensor, items: Tensor) -> Tensor:
    cosines: Tensor = (queries @ items.T) / (queries.norm(dim=1, keepdim=True) @ items.norm(dim=1, keepdim=True).T)
    return cosines


def _metrics(hits: Tensor, counts: Tensor) -> dict[str, Tensor]:
    """Recall, precision, MRR and NDCG [B] of sorted rows of hits [B, N] with so many targets [B]."""
    places = torch.arange(1, hits.shape[1] + 1)
    gains = 1 / torch.log2(places + 1.0)
    found = hits.sum(dim=1)
    return {
        "recall": found / counts,
        "precision": found / len(places),
        "mrr": (hits / places).sum(dim=1),
        "ndcg": (hits * gains).sum(dim=1) / (gains * (places <= counts[:, None])).sum(dim=1),
    }
