"""The frozen layers below those that learn: run once per batch, their output kept, and the layers above started from it.

With the last k layers trained (Llama-3-8B: 4 of 32) everything below computes the same in every epoch and for the reference
policy. Here are two views of one decoder that share its modules: the lower part, and the upper part fed with what the lower
gave. No parameter is copied. Left out: adapters, whose every layer learns.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel


def frozen_layers(decoder: PreTrainedModel) -> int:
    """How many layers from the bottom up, the embedding before them included, have nothing that learns."""
    if any(parameter.requires_grad for parameter in decoder.get_input_embeddings().parameters()):
        return 0
    layers = list(decoder.get_submodule("layers").children())
    learning = [any(parameter.requires_grad for parameter in layer.parameters()) for layer in layers]
    return learning.index(True) if True in learning else len(layers)


def lower_part(decoder: PreTrainedModel, depth: int) -> PreTrainedModel:
    """The decoder up to the input of layer `depth`; its last hidden state is that input, not normalised."""
    layers = list(decoder.get_submodule("layers").children())
    return _view(decoder, layers=nn.ModuleList(layers[:depth]), norm=nn.Identity())


def upper_part(decoder: PreTrainedModel, depth: int, states: Tensor) -> PreTrainedModel:
    """The decoder from layer `depth` on, for inputs whose states before that layer are `states` [B, W, hidden].

    It is to be called with `states` as its embeddings, which it takes for their shape only (Gemma scales embeddings).
    """
    layers = list(decoder.get_submodule("layers").children())
    return _view(decoder, layers=nn.ModuleList([_Given(states), *layers[depth:]]))


def _view(decoder: PreTrainedModel, **modules: nn.Module) -> PreTrainedModel:
    """The same module with some of its children exchanged."""
    view = copy.copy(decoder)
    view._modules = {**decoder._modules, **modules}  # nn.Module has no public way to share children
    return view


class _Given(nn.Module):
    """Stands in for the layers below: whatever comes in, their kept output goes on."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self._states = states

    def forward(self, *_args: Any, **_kwargs: Any) -> Tensor:
        return self._states
