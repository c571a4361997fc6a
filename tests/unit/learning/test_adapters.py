"""The LoRA layer of one product against peft's own, which is its plain twin."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from services.trainer.learning.adapters import OneProductLinear


def layers(inputs: int, outputs: int, rank: int, *, bias: bool) -> tuple[OneProductLinear, Linear]:
    """Both kinds over one base layer, with the same adapters, of which none is 0."""
    torch.manual_seed(0)
    base = nn.Linear(inputs, outputs, bias=bias)
    base.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=3 * rank)
    ours, plain = (kind(base, "default", config=config, r=rank, lora_alpha=3 * rank) for kind in (OneProductLinear, Linear))
    nn.init.normal_(plain.lora_B["default"].weight)
    ours.load_state_dict(plain.state_dict())
    return ours, plain


def passed(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of a function of it: of the input, of A and of B."""
    x = x.clone().requires_grad_()
    y = layer(x)
    torch.sin(y).sum().backward()
    return [y.detach(), x.grad, *(parameter.grad for name, parameter in layer.named_parameters() if "lora_" in name)]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("inputs", "outputs", "rank"), [(16, 16, 8), (16, 64, 8), (64, 16, 16)])
def test_equals_the_plain_twin(inputs: int, outputs: int, rank: int, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In output and all gradients; and peft's own arithmetic has no part in it."""
    ours, plain = layers(inputs, outputs, rank, bias=bias)
    x = torch.randn(3, 40, inputs)
    expected = passed(plain, x)
    monkeypatch.setattr(Linear, "forward", None)
    for value, wanted in zip(passed(ours, x), expected, strict=True):
        assert (value - wanted).norm() / wanted.norm() < 1e-5


@pytest.mark.parametrize(
    ("rank", "tokens", "dtype"),
    [
        (1, 120, torch.float32),  # low rank: (120 + 4) 4,096 > 3 x 120 x 128
        (32, 10, torch.float32),  # few tokens: (10 + 128) 4,096 > 3 x 10 x 32 x 128
        (32, 120, torch.bfloat16),  # rounds small adapters away
    ],
)
def test_takes_the_plain_way_where_that_is_better(rank: int, tokens: int, dtype: torch.dtype) -> None:
    """Bit for bit peft's, with (T + 4 r) n m >= 3 T r (n + m) as in the module's docstring."""
    ours, plain = layers(64, 64, rank, bias=False)
    x = torch.randn(tokens, 64, dtype=dtype)
    for value, wanted in zip(passed(ours.to(dtype), x), passed(plain.to(dtype), x), strict=True):
        assert torch.equal(value, wanted)


def test_without_adapters_it_is_the_base_layer() -> None:
    """As for the reference policy."""
    ours, _ = layers(16, 16, 8, bias=True)
    ours.enable_adapters(False)
    x = torch.randn(100, 16)
    assert torch.equal(ours(x), ours.base_layer(x))
