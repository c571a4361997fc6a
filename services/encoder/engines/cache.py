"""A key-value cache of slots: every row has a slot and a length of its own, so rows join and leave between any two positions.

New positions are written in place; the library's own cache copies everything at every step (torch.cat). What a row sees is
masked by its length; `width` is the shared number of positions that a forward pass looks at. Left out: paging - a slot is as
wide as the longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

WIDTH_STEP = 64  # positions; attention of one query over a padded width is bit-equal for all multiples of it (see decoding.py)

States = Sequence[tuple[Tensor, Tensor]]  # for each layer: keys and values [1, heads, positions, head size]


def states_of(cache: DynamicCache) -> States:
    """What a prompt's pass has left in the library's cache."""
    layers = cast("list[Any]", cache.layers)  # its annotation allows for layers without keys
    return [(layer.keys, layer.values) for layer in layers]


class _Places:
    """Where this step's positions go, the same for every layer."""

    def __init__(self, device: torch.device) -> None:
        self.rows = torch.empty(0, dtype=torch.long, device=device)  # [rows] 0, 1, 2, ...
        self.lengths = torch.empty(0, dtype=torch.long, device=device)  # [rows] positions that each slot holds
        self.width = 0


class SlotLayer(DynamicLayer):
    """One layer: buffers [slots, heads, room, head size]."""

    def __init__(self, places: _Places) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers annotates in part
        self._places = places
        self._keys = torch.empty(0)
        self._values = torch.empty(0)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write every row's new position [rows, heads, 1, head size]; return those looked at [rows, heads, width, head size]."""
        places = self._places
        self._keys[places.rows, :, places.lengths] = key_states[:, :, 0]
        self._values[places.rows, :, places.lengths] = value_states[:, :, 0]
        count = len(places.rows)
        return self._keys[:count, :, : places.width], self._values[:count, :, : places.width]

    def get_seq_length(self) -> int:
        """Positions that a forward pass looks at, less the new one."""
        return self._places.width - 1

    def reserve(self, slots: int, room: int, like: tuple[Tensor, Tensor]) -> None:
        """Make the buffers this large, keeping what they hold. Zeros, because masked positions are still multiplied by 0."""
        self._keys, self._values = (_enlarged(old, slots, room, new) for old, new in zip(self.buffers(), like, strict=True))

    def put(self, slot: int, copies: int, states: tuple[Tensor, Tensor]) -> None:
        """The same states into `copies` slots from `slot` on."""
        for buffer, state in zip(self.buffers(), states, strict=True):
            buffer[slot : slot + copies, :, : state.shape[2]] = state

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one slot over another."""
        for buffer in self.buffers():
            buffer[target, :, :length] = buffer[source, :, :length]

    def buffers(self) -> tuple[Tensor, Tensor]:
        return self._keys, self._values


class SlotCache(Cache):
    """The slots of a batch. Slots are numbered from 0 without gaps: whoever frees one moves the last one there."""

    def __init__(self, layers: int, device: torch.device) -> None:
        self._places = _Places(device)
        self._slots = self._room = 0
        self._device = device
        self._own = [SlotLayer(self._places) for _ in range(layers)]
        super().__init__(layers=list(self._own))

    def put(self, slot: int, copies: int, states: States) -> None:
        """Fork a prompt's states into `copies` slots."""
        self._reserve(slot + copies, states[0][0].shape[2] + 1, states)
        for layer, state in zip(self._own, states, strict=True):
            layer.put(slot, copies, state)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a slot over another."""
        for layer in self._own:
            layer.move(source, target, length)

    def place(self, lengths: Tensor, longest: int) -> int:
        """Say how many positions each slot holds [rows] before a forward pass; returns the width that it looks at."""
        width = -(-(longest + 1) // WIDTH_STEP) * WIDTH_STEP
        states = [layer.buffers() for layer in self._own]
        self._reserve(len(lengths), width, states)
        if len(lengths) != len(self._places.rows):
            self._places.rows = torch.arange(len(lengths), device=self._device)
        self._places.lengths, self._places.width = lengths, width
        return width

    def _reserve(self, slots: int, room: int, like: States) -> None:
        if slots <= self._slots and room <= self._room:
            return
        self._slots = max(self._slots, 2 * slots if self._slots else slots) if slots > self._slots else self._slots
        if room > self._room:
            self._room = -(-(room + WIDTH_STEP) // WIDTH_STEP) * WIDTH_STEP
        for layer, states in zip(self._own, like, strict=True):
            layer.reserve(self._slots, self._room, states)


def _enlarged(old: Tensor, slots: int, room: int, like: Tensor) -> Tensor:
    buffer = like.new_zeros((slots, like.shape[1], room, like.shape[3]))
    if old.numel():
        buffer[: old.shape[0], :, : old.shape[2]] = old
    return buffer
