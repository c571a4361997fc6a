"""Rollout groups as tensors: all tokens of several groups behind each other in one row, nothing repeated and nothing padded.

Of a group the row holds the prompt once, then each response without its last token (nothing follows it). Position ids make every
response start right after its prompt; who sees whom is up to `attention`, by the lengths (`spans`). The prompt's last token
predicts the first token of every response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from services.trainer.learning.ports import RolloutGroup

Spans = Sequence[Sequence[int]]  # for each group in turn the tokens of its prompt, and of each response less its last


@dataclass(frozen=True, slots=True)
class PackedGroups:
    """B groups of G rollouts. T: tokens of the row; N: all response tokens; K: tokens that predict one."""

    ids: Tensor  # [1, T] long
    positions: Tensor  # [1, T] long, position ids
    kept: Tensor  # [K] long, places in the row whose hidden states are wanted, in order
    predictors: Tensor  # [N] long, place in the row whose logits predict label n
    labels: Tensor  # [N] long, token ids
    samples: Tensor  # [N] long, place in the flattened [B * G] that label n belongs to
    spans: Spans
    shape: tuple[int, int]  # (B, G)

    def to(self, device: torch.device) -> PackedGroups:
        """The same on `device`."""
        names = ("ids", "positions", "kept", "predictors", "labels", "samples")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def pack(groups: Sequence[RolloutGroup]) -> PackedGroups:
    """Lay out groups that all have the same number of rollouts."""
    samples_each = len(groups[0].rollouts)
    ids: list[int] = []
    positions: list[int] = []
    predictors: list[int] = []
    for group in groups:
        prompt = len(group.prompt_token_ids)
        ids += group.prompt_token_ids
        positions += range(prompt)
        last = len(ids) - 1
        for rollout in group.rollouts:
            inputs = rollout.token_ids[:-1]
            predictors += [last, *range(len(ids), len(ids) + len(inputs))]
            ids += inputs
            positions += range(prompt, prompt + len(inputs))
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    places = torch.tensor(predictors)
    return PackedGroups(
        ids=torch.tensor([ids]),
        positions=torch.tensor([positions]),
        kept=places.unique(),
        predictors=places,
        labels=torch.tensor([label for rollout in rollouts for label in rollout.token_ids]),
        samples=torch.tensor([at for at, rollout in enumerate(rollouts) for _ in rollout.token_ids]),
        spans=[_spans(group) for group in groups],
        shape=(len(groups), samples_each),
    )


def _spans(group: RolloutGroup) -> list[int]:
    return [len(group.prompt_token_ids), *(len(rollout.token_ids) - 1 for rollout in group.rollouts)]


def micro_batches(groups: Sequence[RolloutGroup], token_budget: int) -> list[list[int]]:
    """Positions of `groups` in parts of at most `token_budget` tokens (or one group): the longest first, each where it fits."""
    tokens = [sum(_spans(group)) for group in groups]
    parts: list[list[int]] = []
    room: list[int] = []
    for at in sorted(range(len(groups)), key=lambda at: (-tokens[at], at)):
        place = next((number for number, left in enumerate(room) if tokens[at] <= left), None)
        if place is None:
            place = len(parts)
            parts.append([])
            room.append(token_budget)
        parts[place].append(at)
        room[place] -= tokens[at]
    return parts
