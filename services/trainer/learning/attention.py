"""Attention within one row of several groups: a prompt sees itself, a response its prompt and itself.

Piece by piece, so no work goes into what is masked and no mask is as large as the row. The plain computation that this must
equal, a row of its own for every sample, lives in the tests.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from services.trainer.learning.packing import Spans

_SHARED = "sdpa_shared_prompt"


def prepare(model: PreTrainedModel) -> None:
    """Have `model` attend by `spans` where it is called with them, and as the library's `sdpa` where it is not."""
    AttentionInterface.register(_SHARED, _attend)
    AttentionMaskInterface.register(_SHARED, sdpa_mask)
    model.set_attn_implementation(_SHARED)


def response_mask(spans: Spans, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Of the longest response after the longest prompt, [1, 1, Q, P + Q]; the others' masks are parts of it.

    True: may be seen; on CPU 0 and -inf, of `dtype`, which every call would else make of it.
    """
    prompt, response = max(lengths[0] for lengths in spans), max(max(lengths[1:]) for lengths in spans)
    if device.type == "cpu":
        return torch.full((1, 1, response, prompt + response), -torch.inf, dtype=dtype).triu(prompt + 1)
    return torch.ones(1, 1, response, prompt + response, dtype=torch.bool, device=device).tril(prompt)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    spans: Spans | None = None,
    predictors_only: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query, key, value [1, heads, T, head size] -> [1, T, heads, head size]. `attention_mask` is the `response_mask`.

    `predictors_only`: of a prompt only the last place asks; the others get zeros.
    """
    if spans is None or attention_mask is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        return plain
    if query.device.type != "cpu":  # the kernels of GPUs know either a mask or groups of heads
        key, value = (states.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for states in (key, value))
    attend = partial(scaled_dot_product_attention, scale=scaling, enable_gqa=query.shape[1] != key.shape[1])
    lengths = [length for group in spans for length in group]
    pieces = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    before = attention_mask.shape[3] - attention_mask.shape[2]  # the longest prompt
    outputs: list[Tensor] = []
    for prompt, *responses in spans:
        asks, keys, values = next(pieces)
        if predictors_only:
            outputs.append(pad(attend(asks[:, :, -1:], keys, values), (0, 0, prompt - 1, 0)))
        else:
            outputs.append(attend(asks, keys, values, is_causal=True))
        for length, (asks, *own) in zip(responses, pieces, strict=False):
            if length:
                seen_keys, seen_values = (torch.cat(states, dim=2) for states in zip((keys, values), own, strict=True))
                mask = attention_mask[..., :length, before - prompt : before + length]
                outputs.append(attend(asks, seen_keys, seen_values, attn_mask=mask))
    return torch.cat(outputs, dim=2).transpose(1, 2), None
