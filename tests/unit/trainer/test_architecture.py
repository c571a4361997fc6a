"""Numbers of parameters from a config.json against the models themselves, built without memory (meta device)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers import PreTrainedConfig as Config

from langptune.errors import FailedPrecondition
from services.trainer.jobs.architecture import _HUB, reader, writer
from services.trainer.jobs.planning import encoder_parameters
from services.trainer.learning.config import RlsoConfig
from services.trainer.learning.trainable import choose_trainable

SIZES = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
WRITERS: dict[str, Config] = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "llama with biases": LlamaConfig(**SIZES, tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
    "gemma": GemmaConfig(**SIZES, head_dim=16, tie_word_embeddings=True),
    "mistral": MistralConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=False),
    "qwen3": Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True),
}


def _count(module: torch.nn.Module, *, learning: bool = False) -> int:
    return sum(each.numel() for each in module.parameters() if each.requires_grad or not learning)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("trainable", ["full", "last_k", "lora"])
def test_counts_are_those_of_the_model(name: str, trainable: str, tmp_path: Path) -> None:
    WRITERS[name].save_pretrained(tmp_path)
    rlso = RlsoConfig.model_validate({"trainable": trainable, "last_k": 2, "lora_rank": 4})
    model = AutoModelForCausalLM.from_config(WRITERS[name])
    chosen = choose_trainable(model, rlso)
    assert encoder_parameters(writer(str(tmp_path)), rlso) == (_count(chosen), _count(chosen, learning=True))


@pytest.mark.parametrize("model", sorted(_HUB))
def test_the_production_models_are_those_of_the_table(model: str) -> None:
    """E.g. Gemma-2B: 2,506,172,416 parameters."""
    values = dict(_HUB[model])
    kind = values.pop("model_type")
    config = {"gemma": GemmaConfig, "llama": LlamaConfig, "bert": BertConfig}[kind](**values)
    with torch.device("meta"):
        built = AutoModel.from_config(config) if kind == "bert" else AutoModelForCausalLM.from_config(config)
    assert (reader if kind == "bert" else writer)(model).total == _count(built)


def test_published_sizes() -> None:
    sizes = {"google/gemma-2b-it": 2_506_172_416, "meta-llama/Meta-Llama-3-8B-Instruct": 8_030_261_248}
    assert {model: writer(model).total for model in sizes} == sizes
    assert reader("mixedbread-ai/mxbai-embed-large-v1").total == 335_141_888


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"no config\.json"):
        writer(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(FailedPrecondition, match="'mamba'"):
        writer(str(tmp_path))
    with pytest.raises(FailedPrecondition, match="'mamba'"):
        reader(str(tmp_path))
