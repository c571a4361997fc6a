"""Rollout groups as tensors: the prompt once, its G responses behind each other in one row, nothing repeated.

The response side of a row is the prompt's last token (it predicts the first token of every response), then each response
without its own last token (nothing follows it). A mask lets a response token see the prompt and its own response only, and
explicit position ids make every response start right after the prompt. So the prompt's keys and values are shared by all
G responses without being copied, and the prompt's own hidden states are never needed beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from services.trainer.learning.ports import RolloutGroup

_SHARED, _PADDING = 0, -1  # segments of the response side; response g is segment g + 1


@dataclass(frozen=True, slots=True)
class PackedGroups:
    """B groups of G rollouts. P: longest prompt without its last token; Q: longest response side; N: all response tokens."""

    prompt_ids: Tensor  # [B, P] long, padded right
    response_ids: Tensor  # [B, Q] long, padded right
    response_positions: Tensor  # [B, Q] long, position ids
    mask: Tensor  # [B, 1, Q, P + Q] bool, True: may be attended to
    predictors: Tensor  # [N] long, place in the flattened [B * Q] whose logits predict label n
    labels: Tensor  # [N] long, token ids
    samples: Tensor  # [N] long, place in the flattened [B * G] that label n belongs to
    shape: tuple[int, int]  # (B, G)

    def to(self, device: torch.device) -> PackedGroups:
        """The same on `device`."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "shape"}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})


@dataclass(slots=True)
class _Row:
    """The response side of one group, as lists."""

    ids: list[int]
    positions: list[int]
    segments: list[int]
    predictors: list[int]
    labels: list[int]
    samples: list[int]


def pack(groups: Sequence[RolloutGroup]) -> PackedGroups:
    """Lay out groups that all have the same number of rollouts."""
    rows = [_row(group) for group in groups]
    samples_each = len(groups[0].rollouts)
    width = max(len(row.ids) for row in rows)
    prompt_ids = _padded([group.prompt_token_ids[:-1] for group in groups], 0)
    segments = _padded([row.segments for row in rows], _PADDING)
    prompt_lengths = torch.tensor([len(group.prompt_token_ids) - 1 for group in groups])
    return PackedGroups(
        prompt_ids=prompt_ids,
        response_ids=_padded([row.ids for row in rows], 0),
        response_positions=_padded([row.positions for row in rows], 0),
        mask=_mask(segments, prompt_lengths, prompt_ids.shape[1]),
        predictors=torch.tensor([at * width + place for at, row in enumerate(rows) for place in row.predictors]),
        labels=torch.tensor([label for row in rows for label in row.labels]),
        samples=torch.tensor([at * samples_each + sample for at, row in enumerate(rows) for sample in row.samples]),
        shape=(len(groups), samples_each),
    )


def _row(group: RolloutGroup) -> _Row:
    start = len(group.prompt_token_ids)
    row = _Row([group.prompt_token_ids[-1]], [start - 1], [_SHARED], [], [], [])
    for sample, rollout in enumerate(group.rollouts):
        inputs = rollout.token_ids[:-1]
        row.predictors += [0, *range(len(row.ids), len(row.ids) + len(inputs))]
        row.labels += rollout.token_ids
        row.samples += [sample] * len(rollout.token_ids)
        row.ids += inputs
        row.positions += range(start, start + len(inputs))
        row.segments += [sample + 1] * len(inputs)
    return row


def _mask(segments: Tensor, prompt_lengths: Tensor, prompt_width: int) -> Tensor:
    batch, width = segments.shape
    asks, asked = segments[:, :, None], segments[:, None, :]
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    own = causal & ((asked == _SHARED) | (asked == asks)) & (asked != _PADDING)
    own |= torch.eye(width, dtype=torch.bool)  # padding attends to itself: a row with nothing to attend to would be NaN
    prompt = torch.arange(prompt_width)[None, None, :] < prompt_lengths[:, None, None]
    return torch.cat([prompt.expand(batch, width, prompt_width), own], dim=2)[:, None]


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max(1, *(len(row) for row in rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.long).reshape(len(rows), width)


def micro_batches(groups: Sequence[RolloutGroup], token_budget: int) -> list[list[int]]:
    """Positions of `groups` in parts of similar length, each of at most `token_budget` padded tokens (or one group)."""
    prompts = [len(group.prompt_token_ids) for group in groups]
    responses = [sum(len(rollout.token_ids) for rollout in group.rollouts) for group in groups]
    parts: list[list[int]] = []
    widest = (0, 0)
    for at in sorted(range(len(groups)), key=lambda at: (-prompts[at] - responses[at], at)):
        grown = (max(widest[0], prompts[at]), max(widest[1], responses[at]))
        if parts and (len(parts[-1]) + 1) * sum(grown) <= token_budget:
            parts[-1].append(at)
            widest = grown
        else:
            parts.append([at])
            widest = (prompts[at], responses[at])
    return parts
