"""What a new position may look at, and how attention is computed for it.

On CPU a new position's attention is computed head by head instead of with the heads of a group packed into one product, as the
library would: only then is the result, to the last bit, the same whatever width a row is padded to. Models that the library
does not run with its `sdpa` attention keep what they have.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PretrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_BY_HEAD = "sdpa_by_head"
_FULL, _SLIDING = "full_attention", "sliding_attention"


def prepare(model: PreTrainedModel) -> None:
    """Choose the attention of `model`. Raises ValueError for layers that are not attention (recurrent states and the like)."""
    unknown = _kinds(model.config) - {_FULL, _SLIDING}
    if unknown:
        raise ValueError(f"its layers of kind {', '.join(sorted(unknown))} cannot be written with row by row")
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(_BY_HEAD, _by_head)
        AttentionMaskInterface.register(_BY_HEAD, sdpa_mask)
        model.set_attn_implementation(_BY_HEAD)


class StepMasks:
    """The masks of one model's forward passes by one position."""

    def __init__(self, config: PretrainedConfig, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._kinds = _kinds(config)
        self._added = config._attn_implementation == "eager"  # it adds its mask to the scores
        self._window = config.get_text_config().sliding_window if _SLIDING in self._kinds else 0  # positions

    def __call__(self, lengths: Tensor, width: int) -> Tensor | dict[str, Tensor]:
        """True where row i's new position, number lengths[i], may look: [rows, 1, 1, width], by kind if there are two."""
        columns = torch.arange(width, device=lengths.device)[None, :]
        full = columns <= lengths[:, None]
        masks = {_FULL: self._form(full), _SLIDING: self._form(full & (columns > lengths[:, None] - self._window))}
        return masks if len(self._kinds) > 1 else masks[next(iter(self._kinds))]

    def _form(self, seen: Tensor) -> Tensor:
        mask = seen[:, None, None]
        return torch.where(mask, 0.0, torch.finfo(self._dtype).min).to(self._dtype) if self._added else mask


def _kinds(config: PretrainedConfig) -> set[str]:
    text = config.get_text_config().to_dict()
    if text.get("layer_types"):
        return set(text["layer_types"])
    return {_SLIDING if text.get("sliding_window") else _FULL}


def _by_head(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """query [rows, heads, positions, head size] -> [rows, positions, heads, head size]."""
    if query.shape[2] > 1 or attention_mask is None:
        whole: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return whole
    output = scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=kwargs.get("scaling"), enable_gqa=query.shape[1] != key.shape[1]
    )
    return output.transpose(1, 2).contiguous(), None
