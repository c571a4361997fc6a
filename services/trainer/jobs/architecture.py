"""Models as numbers: what a Hugging Face config.json says about parameters and arithmetic, without reading a weight.

Known are the decoder-only models that the trainer trains (Llama, Gemma, Mistral, Qwen2, Qwen3) and BERT for the embedder. The
production models stand in a table, so that a plan needs no download. Left out: every other architecture, which has no plan.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langptune.errors import FailedPrecondition

_HUB: Mapping[str, Mapping[str, Any]] = {  # as their config.json has it
    "google/gemma-2b-it": {
        "model_type": "gemma",
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "vocab_size": 256000,
        "tie_word_embeddings": True,
    },
    "meta-llama/Meta-Llama-3-8B-Instruct": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
    },
    "mixedbread-ai/mxbai-embed-large-v1": {
        "model_type": "bert",
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    },
}
_WRITERS = frozenset({"llama", "gemma", "mistral", "qwen2", "qwen3"})


@dataclass(frozen=True, slots=True)
class Writer:
    """A causal language model of the Llama family. Numbers of parameters, unless they are sizes."""

    hidden: int  # size
    layers: int  # size
    attention: int  # size: width of all heads together
    key_value: int  # size: width of all key-value heads together
    intermediate: int  # size
    vocabulary: int  # size
    extra: int  # biases and per-head norms of one layer
    tied: bool

    @property
    def linears(self) -> list[tuple[int, int]]:
        """In and out of the seven matrices of a layer."""
        hidden, inner = self.hidden, self.intermediate
        attention = [(hidden, self.attention), (hidden, self.key_value), (hidden, self.key_value), (self.attention, hidden)]
        return [*attention, (hidden, inner), (hidden, inner), (inner, hidden)]

    @property
    def layer(self) -> int:
        """One layer, its two norms included."""
        return sum(a * b for a, b in self.linears) + 2 * self.hidden + self.extra

    @property
    def head(self) -> int:
        """lm_head, and just as many in the input embedding."""
        return self.hidden * self.vocabulary

    @property
    def total(self) -> int:
        """The whole model, a tied lm_head counted once."""
        return self.head * (1 if self.tied else 2) + self.layers * self.layer + self.hidden

    def lora(self, rank: int) -> int:
        """Adapters of this rank on every matrix and on lm_head."""
        each = sum(a + b for a, b in self.linears)
        return rank * (self.layers * each + self.hidden + self.vocabulary)


@dataclass(frozen=True, slots=True)
class Reader:
    """A BERT, pooler included."""

    hidden: int
    layers: int
    intermediate: int
    vocabulary: int
    positions: int
    types: int

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        attention = 4 * (self.hidden**2 + self.hidden)
        feed_forward = 2 * self.hidden * self.intermediate + self.intermediate + self.hidden
        return attention + feed_forward + 4 * self.hidden

    @property
    def total(self) -> int:
        """Parameters of the whole model."""
        embedding = (self.vocabulary + self.positions + self.types + 2) * self.hidden
        return embedding + self.layers * self.layer + self.hidden**2 + self.hidden


def writer(model: str) -> Writer:
    """The profile encoder in this folder or of this hub id. Raises FailedPrecondition if nothing is known of it."""
    config = _config(model)
    kind = config["model_type"]
    if kind not in _WRITERS:
        raise _unknown(model, f"architecture {kind!r}")
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head_width = config.get("head_dim") or hidden // heads
    attention, key_value = heads * head_width, config.get("num_key_value_heads", heads) * head_width
    extra = 0
    if kind == "qwen2" or config.get("attention_bias"):
        extra += attention + 2 * key_value + (0 if kind == "qwen2" else hidden)
    if config.get("mlp_bias"):
        extra += 2 * config["intermediate_size"] + hidden
    if kind == "qwen3":
        extra += 2 * head_width
    tied = config.get("tie_word_embeddings", kind == "gemma")
    sizes = (hidden, config["num_hidden_layers"], attention, key_value, config["intermediate_size"], config["vocab_size"])
    return Writer(*sizes, extra, tied)


def reader(model: str) -> Reader:
    """The embedder in this folder or of this hub id. Raises FailedPrecondition if nothing is known of it."""
    config = _config(model)
    if config["model_type"] != "bert":
        raise _unknown(model, f"architecture {config['model_type']!r}")
    names = ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size", "max_position_embeddings", "type_vocab_size")
    return Reader(*(config[name] for name in names))


def _config(model: str) -> Mapping[str, Any]:
    if model in _HUB:
        return _HUB[model]
    try:
        found: dict[str, Any] = json.loads((Path(model) / "config.json").read_text())
    except OSError:
        raise _unknown(model, "no config.json there") from None
    return found


def _unknown(model: str, why: str) -> FailedPrecondition:
    return FailedPrecondition(f"no plan can be made for the model {model}: {why}", reason="UNKNOWN_ARCHITECTURE")
