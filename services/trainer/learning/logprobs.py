"""Log-probs of labels from hidden states, without ever holding the logits of all positions of a large vocabulary.

Positions go through the head in chunks. One chunk keeps one buffer of logits, which its backward pass turns into their gradient
in place; several chunks keep none and compute their logits again (vocabularies of 256,000 columns make that the cheaper way).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint


def label_logprobs(head: nn.Module, hidden: Tensor, labels: Tensor, chunks: int) -> Tensor:
    """ln softmax(head(hidden))[labels] in float32, in so many chunks, none of them kept. [N, hidden], [N] -> [N]"""
    if chunks == 1:
        return _chunk(head, hidden, labels)
    parts = zip(torch.tensor_split(hidden, chunks), torch.tensor_split(labels, chunks), strict=True)
    return torch.cat([checkpoint(_chunk, head, *part, use_reentrant=False) for part in parts])


def _chunk(head: nn.Module, hidden: Tensor, labels: Tensor) -> Tensor:
    logprobs: Tensor = _LabelLogprobs.apply(head(hidden), labels)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
    return logprobs


class _LabelLogprobs(Function):
    """logits [N, V], labels [N] -> x_y - ln sum_v e^(x_v) [N]. The gradient, g (onehot - softmax), takes their place."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        ctx.save_for_backward(logits, labels)
        return logits.log_softmax(dim=1, dtype=torch.float32).gather(1, labels[:, None]).squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        logits, labels = ctx.saved_tensors
        values = logits.float()  # in float32 the very buffer: the head made it for us, and needs it no more
        gradient = torch.softmax(values, dim=1, out=values).mul_(-upstream[:, None])
        gradient[torch.arange(len(labels), device=labels.device), labels] += upstream
        return gradient.to(logits.dtype), None
