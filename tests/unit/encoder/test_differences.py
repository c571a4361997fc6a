"""Versions that are a difference to their parent: last layers, adapters, whole models; what is shared and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from langptune.errors import FailedPrecondition
from langptune.weights import Manifest, WeightsStore
from services.encoder.engines.loading import LoadedModel, ModelLoader
from services.encoder.engines.port import Options, Work
from services.encoder.engines.transformers import TransformersEngine
from services.encoder.settings import EncoderSettings
from tests.support.micro_writer import interaction

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # PEFT asks for it

IDS = torch.tensor([[1, 9, 30, 77, 5, 200, 41]])
LAST = ("model.layers.1.", "model.norm.")


@pytest.fixture
def loader() -> ModelLoader:
    return ModelLoader("cpu", "float32", 1_024)


@pytest.fixture
def parent(loader: ModelLoader, model_folder: Path) -> LoadedModel:
    return loader.load(str(model_folder))


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def save_last_layers(trained: LlamaForCausalLM, folder: Path) -> Path:
    folder.mkdir()
    save_file(
        {name: value.clone() for name, value in trained.state_dict().items() if name.startswith(LAST)},
        folder / "model.safetensors",
    )
    return folder


def trained_layers(model_folder: Path) -> LlamaForCausalLM:
    """The base model with other values in its last layer and norm."""
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if name.startswith(LAST):
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def save_adapter(model_folder: Path, folder: Path) -> torch.Tensor:
    """A LoRA on attention and lm_head, untied as the trainer unties it; returns the logits of the merged model."""
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    model.config.tie_word_embeddings = False
    wrapped = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj", "lm_head"]))
    torch.manual_seed(6)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data = 0.2 * torch.randn_like(parameter)
    wrapped.save_pretrained(folder, save_embedding_layers=False)  # lm_head itself has not changed
    return logits(wrapped.eval())


def shared(first: nn.Module, second: nn.Module) -> set[str]:
    """Names of the parameters that are the same memory."""
    others = dict(second.named_parameters())
    return {name for name, value in first.named_parameters() if name in others and value.data_ptr() == others[name].data_ptr()}


def test_last_layers_replace_the_parents_and_share_the_rest(
    loader: ModelLoader, parent: LoadedModel, model_folder: Path, tmp_path: Path
) -> None:
    trained, before = trained_layers(model_folder), logits(parent.model)
    loaded = loader.load_difference(str(save_last_layers(trained, tmp_path / "last")), parent)
    torch.testing.assert_close(logits(loaded.model), logits(trained))
    assert torch.equal(logits(parent.model), before)
    names = {name for name, _ in parent.model.named_parameters()}
    assert shared(loaded.model, parent.model) == {name for name in names if not name.startswith(LAST)}


def test_an_adapter_is_merged_and_the_parent_is_left_alone(
    loader: ModelLoader, parent: LoadedModel, model_folder: Path, tmp_path: Path
) -> None:
    expected, before = save_adapter(model_folder, tmp_path / "adapter"), logits(parent.model)
    loaded = loader.load_difference(str(tmp_path / "adapter"), parent)
    torch.testing.assert_close(logits(loaded.model), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(logits(parent.model), before)
    assert "model.embed_tokens.weight" in shared(loaded.model, parent.model)
    assert "model.layers.0.self_attn.k_proj.weight" in shared(loaded.model, parent.model)
    assert "model.layers.0.self_attn.q_proj.weight" not in shared(loaded.model, parent.model)


def test_a_complete_version_of_the_same_shape_shares_nothing(
    loader: ModelLoader, parent: LoadedModel, model_folder: Path, tmp_path: Path
) -> None:
    trained = trained_layers(model_folder)
    trained.save_pretrained(tmp_path / "whole")
    parent.tokenizer.save_pretrained(tmp_path / "whole")
    loaded = loader.load(str(tmp_path / "whole"), [parent])
    torch.testing.assert_close(logits(loaded.model), logits(trained))
    assert not shared(loaded.model, parent.model)


@pytest.mark.parametrize(
    ("name", "shape", "sentence"), [("model.norm.weight", (7,), "not"), ("model.layers.9.x", (32,), "beyond")]
)
def test_a_difference_that_does_not_fit_is_refused(
    loader: ModelLoader, parent: LoadedModel, tmp_path: Path, name: str, shape: tuple[int, ...], sentence: str
) -> None:
    save_file({name: torch.zeros(shape)}, tmp_path / "model.safetensors")
    with pytest.raises(FailedPrecondition, match=sentence):
        loader.load_difference(str(tmp_path), parent)


async def test_an_engine_writes_with_differences_of_differences(
    store: WeightsStore, base_version: str, model_folder: Path, tmp_path: Path
) -> None:
    """last layers <- adapter, one place in memory: parents are loaded for their children. All three write different texts."""
    save_last_layers(trained_layers(model_folder), tmp_path / "last")
    save_adapter(model_folder, tmp_path / "adapter")
    last = store.add(tmp_path / "last", Manifest("last", "encoder", "micro", parent=base_version)).version
    adapter = store.add(tmp_path / "adapter", Manifest("adapter", "encoder", "micro", parent=last)).version
    engine = TransformersEngine(EncoderSettings(encoder_resident_versions=1), store)
    texts = set()
    for version in (adapter, last, base_version):
        group = await engine.generate(Work(version, [[interaction("One")]], "books", Options(20, 1.0, 1)))
        texts.add(group.rollouts[0].token_ids)
        assert engine.versions() == [version]
    assert len(texts) == 3
    await engine.close()
