"""Contrastive learning as tiny pure functions: InfoNCE with in-batch negatives (Eq. 10) and which of those are none."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn import functional


def false_negatives(
    targets: Sequence[str],  # [B] the positive item of each row
    known: Sequence[Collection[str]],  # [B] items of the row's user that are no negatives: the history, further targets
    further: Sequence[str] = (),  # [N] items that are nobody's target in this batch
) -> Tensor:  # [B, B + N] bool
    """True at (i, j) where item j must not count against row i: another copy of its target, or an item its user knows.

    The diagonal, the positive itself, is never masked.
    """
    rows = [
        [i != j and (item == target or item in own) for j, item in enumerate([*targets, *further])]
        for i, (target, own) in enumerate(zip(targets, known, strict=True))
    ]
    return torch.tensor(rows, dtype=torch.bool)


def info_nce(
    queries: Tensor,  # [B, D] unit vectors Phi(p); carries the gradient
    items: Tensor,  # [B + N, D] unit vectors; row i < B is Phi(d+), the positive of query i; carries the gradient
    masked: Tensor,  # [B, B + N] bool, from `false_negatives`
    temperature: float,
) -> Tensor:  # scalar
    """Mean over rows of -ln( exp(s_ii / T) / sum_j exp(s_ij / T) ), j over the items that are not masked; s is the cosine."""
    logits = (queries @ items.T / temperature).masked_fill(masked, -torch.inf)
    return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
