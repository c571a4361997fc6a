"""A key-value cache that writes new positions in place.

The library's own cache copies everything at every step (torch.cat); for a few hundred short rows that copy costs more than the
model. Layers of another kind than plain full attention (sliding windows, recurrent states) keep the library's own class.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

ROOM = 64  # positions that a full buffer grows by


class GrowingLayer(DynamicLayer):
    """`keys` and `values` [rows, heads, length, head size] are views of the filled part of larger buffers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers annotates in part
        self._buffers: tuple[Tensor, Tensor] | None = None  # [rows, heads, capacity, head size] each

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append the states of new positions and return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = self.get_seq_length()
        end = length + key_states.shape[-2]
        if self._buffers is None or end > self._buffers[0].shape[-2]:
            self._buffers = (_grown(self.keys, key_states, end + ROOM), _grown(self.values, value_states, end + ROOM))
        key_buffer, value_buffer = self._buffers
        key_buffer[:, :, length:end] = key_states
        value_buffer[:, :, length:end] = value_states
        self.keys, self.values = key_buffer[:, :, :end], value_buffer[:, :, :end]
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Fork every row `repeats` times."""
        super().batch_repeat_interleave(repeats)
        self._buffers = None

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the rows `indices` only."""
        super().batch_select_indices(indices)
        self._buffers = None


def new_cache(config: PretrainedConfig) -> DynamicCache:
    """An empty cache for a model of this configuration."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def _grown(filled: Tensor | None, new: Tensor, capacity: int) -> Tensor:
    rows, heads, _, size = new.shape
    buffer = torch.empty((rows, heads, capacity, size), dtype=new.dtype, device=new.device)
    if filled is not None and filled.numel():
        buffer[:, :, : filled.shape[-2]] = filled
    return buffer
