"""What `benchmarks.learning` computes on: model shapes in the paper's proportions, prompts, rollouts, and a catalogue.

Weights are random. lm_head has a bias on EOS, such that a rollout ends at any token with the chance that makes the mean length
half the limit (about a fifth is cut at it). Both sides see the same rollouts in training; only how they are computed differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, PreTrainedConfig, PreTrainedModel

from services.trainer.learning.config import RlsoConfig

EOS = 2
RESERVED = 3  # pad, BOS, EOS
ITEMS, DIMENSIONS, HISTORY = 10_533, 1_024, 4  # the paper's larger catalogue; mxbai-embed-large-v1; items of a history


@dataclass(frozen=True, slots=True)
class Shape:
    """One recipe of Appendix B at one size."""

    name: str
    family: Literal["gemma", "llama"]
    trainable: Literal["lora", "last_k"]
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    last_k: int = 1
    lora_rank: int = 1
    histories: int = 16
    samples: int = 2
    prompt_limit: int = 512  # tokens; prompts have .54 of it in the mean
    response_limit: int = 256  # tokens; responses have .5 of it in the mean
    gamma: float = 0.2  # so that both sides need the reference policy

    @property
    def narrow(self) -> int:
        """Width of the keys, and of the values."""
        return self.hidden // self.heads * self.key_value_heads

    @property
    def micro_tokens(self) -> int:
        """Tokens of one gradient pass on both sides, padding included: what one history's rows are at full length."""
        return self.samples * (self.prompt_limit + self.response_limit)

    def rlso(self) -> RlsoConfig:
        """The update as the learner takes it."""
        return RlsoConfig(
            histories=self.histories,
            samples=self.samples,
            trainable=self.trainable,
            last_k=self.last_k,
            lora_rank=self.lora_rank,
            lora_alpha=2 * self.lora_rank,
            gamma=self.gamma,
            learning_rate=1e-4,
            max_new_tokens=self.response_limit,
            micro_tokens=self.micro_tokens,
        )

    def quick(self) -> Shape:
        """A few seconds instead of minutes; its ratios say little."""
        return replace(self, histories=4, prompt_limit=128, response_limit=64)


# Parameters in lm_head against those in the layers as in the originals (.26 and .075); rank and depth too.
TINY = {
    "lora": Shape("lora", "gemma", "lora", 128, 1024, 6, 4, 1, vocabulary=5120, lora_rank=64),
    "last_k": Shape("last_k", "llama", "last_k", 128, 448, 16, 4, 1, vocabulary=2048, last_k=2),
}
FULL = {  # Gemma-2B-it and Llama-3-8B-it
    "lora": Shape("lora", "gemma", "lora", 2048, 16384, 18, 8, 1, 256_000, lora_rank=1024, prompt_limit=1024, response_limit=512),
    "last_k": Shape(
        "last_k", "llama", "last_k", 4096, 14336, 32, 32, 8, 128_256, last_k=4, prompt_limit=1024, response_limit=512
    ),
}


def build_model(shape: Shape, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """Random weights, the same for the same shape."""
    sizes: dict[str, Any] = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "head_dim": shape.hidden // shape.heads,
        "max_position_embeddings": shape.prompt_limit + shape.response_limit,
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": EOS,
    }
    config: PreTrainedConfig = GemmaConfig(**sizes) if shape.family == "gemma" else LlamaConfig(**sizes)
    torch.manual_seed(0)
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
        head = model.get_submodule("lm_head")
        head.register_parameter("bias", nn.Parameter(torch.zeros(shape.vocabulary, dtype=dtype)))
    with torch.no_grad():
        chance = hazard(shape.response_limit)
        head.get_parameter("bias")[EOS] = math.log(chance / (1 - chance) * (shape.vocabulary - 1))
    model.eval()
    return model


def hazard(limit: int) -> float:
    """The chance of EOS at each token that makes the mean length of what is cut at `limit` half of it."""
    low, high = 1e-6, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        mean = (1 - (1 - middle) ** limit) / middle
        low, high = (middle, high) if mean > limit / 2 else (low, middle)
    return low


def build_prompts(shape: Shape) -> list[tuple[int, ...]]:
    """Random tokens; lengths spread around .54 of the limit as histories do (550 of 1,024)."""
    rng = np.random.default_rng(1)
    lengths = np.clip(rng.normal(0.54, 0.16, shape.histories), 0.1, 1.0) * shape.prompt_limit
    return [(1, *rng.integers(RESERVED, shape.vocabulary, int(length) - 1).tolist()) for length in lengths]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Unit vectors of items and of profiles, with each profile's target and history."""

    items: NDArray[np.float32]  # [items, dimensions]
    profiles: NDArray[np.float32]  # [profiles, dimensions]
    targets: list[int]
    histories: list[list[int]]


def build_catalogue(profiles: int, items: int = ITEMS) -> Catalogue:
    """The paper's size."""
    rng = np.random.default_rng(2)
    chosen = [rng.choice(items, HISTORY + 1, replace=False).tolist() for _ in range(profiles)]
    return Catalogue(
        _unit(rng.standard_normal((items, DIMENSIONS), dtype=np.float32)),
        _unit(rng.standard_normal((profiles, DIMENSIONS), dtype=np.float32)),
        [row[0] for row in chosen],
        [row[1:] for row in chosen],
    )


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
