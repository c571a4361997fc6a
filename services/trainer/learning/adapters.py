"""A LoRA layer that multiplies once, not three times, where that is less arithmetic, as at the paper's rank (half the width).

y = x W'^T with W' = W + s B A, made for the product and not kept; from dW' = dy^T x follow dA = s B^T dW' and dB = s dW' A^T.
For T tokens through a layer of n inputs and m outputs at rank r, forward and backward take 3 T n m + 4 r n m products instead of
2 T n m + 3 T r (n + m). Only in float32: a sum in bfloat16 would round small adapters away. peft's own layer is the plain twin.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class OneProductLinear(Linear):
    """peft's layer with the cheaper arithmetic chosen at every pass."""

    one_product = True  # False where the weights are not whole in this process (ZeRO-3)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters or self.merged or not self._is_cheaper(x):
            result: Tensor = super().forward(x, *args, **kwargs)
            return result
        weights = (part.get_parameter("weight") for part in (self.base_layer, self.lora_A["default"], self.lora_B["default"]))
        product: Tensor = _OneProduct.apply(x, *weights, self.scaling["default"])  # type: ignore[no-untyped-call]  # torch's
        bias: Any = self.base_layer.bias
        return product if bias is None else product + bias

    def _is_cheaper(self, x: Tensor) -> bool:
        weight = self.base_layer.get_parameter("weight")
        if not (self.one_product and weight.dtype == x.dtype == torch.float32):
            return False
        tokens, rank = x.numel() // x.shape[-1], self.r["default"]
        ends, whole = sum(weight.shape), weight.numel()
        if torch.is_grad_enabled():
            return bool((tokens + 4 * rank) * whole < 3 * tokens * rank * ends)
        return bool(whole < tokens * ends)


class _OneProduct(Function):
    """x [..., n], W [m, n], A [r, n], B [m, r], s -> x (W + s B A)^T [..., m]; no gradient for W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x, weight, down, up)
        ctx.scale = scale
        return x @ torch.addmm(weight, up, down, alpha=scale).T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        x, weight, down, up = ctx.saved_tensors
        whole = upstream.flatten(0, -2).T @ x.flatten(0, -2)  # [m, n]
        onward = upstream @ torch.addmm(weight, up, down, alpha=ctx.scale) if ctx.needs_input_grad[0] else None
        return onward, None, (up.T @ whole).mul_(ctx.scale), (whole @ down.T).mul_(ctx.scale), None
