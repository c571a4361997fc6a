"""AdamW as both learners use it; the learning rate is a function of the step (`schedule.linear_decay`) and has no state."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def adamw(parameters: Iterable[nn.Parameter], rate: float, weight_decay: float) -> torch.optim.AdamW:
    """One optimizer per model: a shared one would move the idle model by stale momentum."""
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=weight_decay)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def gradient_norm(parameters: Iterable[nn.Parameter]) -> float:
    """Euclidean norm of all gradients together."""
    return torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]).item()
