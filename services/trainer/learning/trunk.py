"""Views of one decoder, which share its modules, for passes that compute less than the whole. No parameter is copied.

With the last k layers trained (Llama-3-8B: 4 of 32) everything below computes the same in every epoch and for the reference
policy: the lower part runs once per batch, and the upper part is fed with what it gave (not with adapters, whose every layer
learns). And nothing looks at the top layer's output for a prompt but at its last token: `narrowed` leaves it out.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any, TypeVar

from torch import Tensor, nn
from transformers import PreTrainedModel

Module = TypeVar("Module", bound=nn.Module)


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


def narrowed(decoder: PreTrainedModel, kept: Tensor) -> PreTrainedModel:
    """The decoder whose last layer gives keys and values of all places, but the rest only at `kept` [K], places in the row.

    Its last hidden state means nothing elsewhere. Parts of the layer that go by other names than this family's run in full.
    """
    *layers, last = decoder.get_submodule("layers").children()
    if isinstance(last, _Given):
        return decoder
    attention = _with_kept(last.get_submodule("self_attn"), {"q_proj", "o_proj"}, kept)
    top = _with_kept(_view(last, self_attn=attention), {"mlp"}, kept)
    return _view(decoder, layers=nn.ModuleList([*layers, _Top(top)]))


def _with_kept(module: Module, names: Collection[str], kept: Tensor) -> Module:
    return _view(module, **{name: _Kept(child, kept) for name, child in module.named_children() if name in names})


def _view(module: Module, **children: nn.Module) -> Module:
    """The same module with some of its children exchanged."""
    view = copy.copy(module)
    view._modules = {**module._modules, **children}  # nn.Module has no public way to share children
    return view


class _Given(nn.Module):
    """Stands in for the layers below: whatever comes in, their kept output goes on."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self._states = states

    def forward(self, *_args: Any, **_kwargs: Any) -> Tensor:
        return self._states


class _Kept(nn.Module):
    """A module at some places only; elsewhere zeros."""

    def __init__(self, module: nn.Module, kept: Tensor) -> None:
        super().__init__()
        self._module = module
        self._places = kept

    def forward(self, states: Tensor) -> Tensor:  # [1, T, in] -> [1, T, out]
        found: Tensor = self._module(states[:, self._places])
        return found.new_zeros(1, states.shape[1], found.shape[2]).index_copy(1, self._places, found)


class _Top(nn.Module):
    """Tells a layer's attention (`attention`) that of a prompt only the last place asks."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        # not by calling it: DeepSpeed's hooks on the layer, which has no parameters of its own, know no second module
        return self._layer.forward(*args, **kwargs, predictors_only=True)
