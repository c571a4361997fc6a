"""Which parameters of the encoder learn: all, the top layers, or low-rank adapters (Appendix B)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from langptune.errors import InvalidArgument
from services.trainer.learning.adapters import OneProductLinear
from services.trainer.learning.config import RlsoConfig

LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]


def choose_trainable(model: PreTrainedModel, config: RlsoConfig) -> nn.Module:
    """Freeze what does not learn; returns `model`, or for lora its adapters around it. Raises InvalidArgument: `rlso.last_k`."""
    if config.trainable == "lora":
        return _with_adapters(model, config)
    if config.trainable == "last_k":
        _freeze_trunk(model, config.last_k)
    return model


def _freeze_trunk(model: PreTrainedModel, top: int) -> None:
    """Only the `top` last layers, the final norm and lm_head learn."""
    layers = list(model.base_model.get_submodule("layers").children())
    if top > len(layers):
        raise InvalidArgument("rlso.last_k", f"the encoder has {len(layers)} layers, not {top}")
    _untie_head(model)
    model.requires_grad_(False)
    for module in (*layers[-top:], model.base_model.get_submodule("norm"), model.get_submodule("lm_head")):
        module.requires_grad_(True)


def _with_adapters(model: PreTrainedModel, config: RlsoConfig) -> nn.Module:
    _untie_head(model)
    adapters = LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=LORA_TARGETS, lora_dropout=0.0)
    adapters._register_custom_module({nn.Linear: OneProductLinear})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the adapters' first values are part of the model: the same in every run
        return get_peft_model(model, adapters)


def _untie_head(model: PreTrainedModel) -> None:
    """An lm_head that learns while the input embedding is frozen must not be the same tensor."""
    head, embedding = model.get_submodule("lm_head"), model.get_input_embeddings()
    if head.get_parameter("weight") is embedding.get_parameter("weight"):
        head.weight = nn.Parameter(head.get_parameter("weight").detach().clone())
        model.config.tie_word_embeddings = False


def merged(wrapped: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights` of what `choose_trainable` gave, by the names of the model without adapters; with them W + scale B A."""
    if not isinstance(wrapped, PeftModel):
        return dict(weights)
    plain: dict[str, Tensor] = {}
    for name, value in weights.items():
        if ".lora_" in name:
            continue
        own = name.removeprefix("base_model.model.")
        if own.endswith(".base_layer.weight"):
            layer = name.removesuffix(".base_layer.weight")
            down, up = (weights[f"{layer}.lora_{side}.default.weight"] for side in "AB")  # [rank, in], [out, rank]
            value = value + _scale(wrapped.get_submodule(layer)) * (up @ down)
        plain[own.replace(".base_layer.", ".")] = value
    return plain


def _scale(layer: Any) -> float:
    """alpha / rank, as peft keeps it."""
    return float(layer.scaling["default"])
