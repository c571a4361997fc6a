"""Log-probs of labels and their gradient, by hand and against torch's own log-softmax."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn, tensor

from services.trainer.learning.logprobs import label_logprobs


def test_two_columns() -> None:
    """Logits (0, ln 3): p = (1/4, 3/4). Label 1: ln 3/4, and its gradient by the logits is (0, 1) - p = (-1/4, 1/4).

    The head is the identity, so the gradient by the hidden state is the same; label 0 has (3/4, -3/4).
    """
    hidden = tensor([[0.0, math.log(3)], [0.0, math.log(3)]], requires_grad=True)
    head = nn.Linear(2, 2, bias=False)
    head.weight = nn.Parameter(torch.eye(2))
    logprobs = label_logprobs(head, hidden, tensor([1, 0]), chunks=1)
    assert logprobs.tolist() == pytest.approx([math.log(0.75), math.log(0.25)])
    logprobs.sum().backward()
    assert hidden.grad is not None
    assert torch.allclose(hidden.grad, tensor([[-0.25, 0.25], [0.75, -0.75]]))


@pytest.mark.parametrize("chunks", [23, 4, 1, 30])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_the_dense_twin(chunks: int, bias: bool) -> None:
    """Values, and gradients of hidden states, weight and bias, for chunks of one, some, all and none of 23 positions."""
    torch.manual_seed(0)
    head, labels = nn.Linear(16, 301, bias=bias), torch.randint(0, 301, (23,))
    hidden, weights = torch.randn(23, 16, requires_grad=True), torch.randn(23)

    def outcome(logprobs: torch.Tensor) -> list[torch.Tensor]:
        return [logprobs, *torch.autograd.grad((logprobs * weights).sum(), [hidden, *head.parameters()])]

    ours = outcome(label_logprobs(head, hidden, labels, chunks))
    theirs = outcome(head(hidden).log_softmax(1).gather(1, labels[:, None]).squeeze(1))
    for fast, dense in zip(ours, theirs, strict=True):
        assert ((fast - dense).norm() / dense.norm()).item() < 1e-5


def test_half_precision_logits_give_float32_logprobs() -> None:
    """The sum over the vocabulary is taken in float32; the gradient goes back in the head's own precision."""
    torch.manual_seed(0)
    head = nn.Linear(16, 301, bias=False, dtype=torch.bfloat16)
    hidden, labels = torch.randn(5, 16, dtype=torch.bfloat16, requires_grad=True), torch.randint(0, 301, (5,))
    logprobs = label_logprobs(head, hidden, labels, chunks=1)
    assert logprobs.dtype == torch.float32
    assert torch.allclose(logprobs, head(hidden).float().log_softmax(1).gather(1, labels[:, None]).squeeze(1))
    logprobs.sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.bfloat16
