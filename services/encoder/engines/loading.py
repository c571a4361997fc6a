"""From a model folder or hub id to a model that is ready to write. The one place that loads models.

Versions that training makes differ from their base in some of the weights. A complete folder whose tokenizer and configuration
equal those of a loaded version has only its tensors read. A folder without `config.json` is a *difference* to its manifest's
parent: `model.safetensors` holds the tensors that replace the parent's (the last layers, say), or `adapter_config.json` and
`adapter_model.safetensors` (PEFT's form) a LoRA that is merged here. What a difference leaves alone is the parent's own memory.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn import Parameter
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from langptune.errors import FailedPrecondition
from services.encoder.engines.attention import prepare
from services.encoder.prompts import PromptBuilder

_WEIGHTS = "model.safetensors"
_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_ABOUT_WEIGHTS = (_WEIGHTS, "manifest.json")  # what may differ between versions of one shape


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One weights version, ready to write."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompts: PromptBuilder
    stop_ids: frozenset[int]
    context: int  # positions that the model has
    shape: str  # hash of all files but the weights; "" for a model from a hub


class ModelLoader:
    """Loads models in one number format onto one device."""

    def __init__(self, device: str, dtype: str, prompt_tokens: int) -> None:
        self._device = torch.device(device)
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._prompt_tokens = prompt_tokens
        disable_progress_bar()

    def load(self, path: str, resident: Iterable[LoadedModel] = ()) -> LoadedModel:
        """The model at `path` (folder or hub id); one of `resident` may lend what is equal. Raises FailedPrecondition."""
        shape = _shape(Path(path))
        twin = next((other for other in resident if shape and other.shape == shape), None)
        return self._told(path, lambda: self._load_like(path, twin) if twin else self._load_whole(path, shape))

    def load_difference(self, path: str, parent: LoadedModel) -> LoadedModel:
        """`parent` with what the folder `path` changes of it. Raises FailedPrecondition."""
        return self._told(path, lambda: replace(parent, model=self._changed(Path(path), parent.model), shape=""))

    def _told(self, path: str, load: Callable[[], LoadedModel]) -> LoadedModel:
        try:
            return load()
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = str(error).strip().split("\n")[0]
            raise FailedPrecondition(f"the model {path} cannot be loaded: {reason}", reason="MODEL_UNREADABLE") from error

    def _load_whole(self, path: str, shape: str) -> LoadedModel:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path, dtype=self._dtype)
        model.to(self._device).eval()  # type: ignore[arg-type]  # its annotation lacks torch.device
        prepare(model)
        context = int(model.config.get_text_config().max_position_embeddings)
        prompts = PromptBuilder(tokenizer, min(self._prompt_tokens, context * 3 // 4))
        return LoadedModel(model, tokenizer, prompts, _stop_ids(model, tokenizer), context, shape)

    def _load_like(self, path: str, twin: LoadedModel) -> LoadedModel:
        model = _sharing(twin.model)
        written = self._replace(model, Path(path) / _WEIGHTS)
        lacking = [name for name, parameter in model.named_parameters() if id(parameter) not in written]
        if lacking:
            raise ValueError(f"its weights lack {lacking}")
        return replace(twin, model=model)

    def _changed(self, folder: Path, parent: PreTrainedModel) -> PreTrainedModel:
        model = _sharing(parent)
        if (folder / _ADAPTER).is_file():
            return _merged(model, folder)
        self._replace(model, folder / _WEIGHTS)
        return model

    def _replace(self, model: PreTrainedModel, file: Path) -> set[int]:
        """Give parameters the tensors of `file`; the ids of those that have one. A tied parameter is one, stored once."""
        known = dict(model.named_parameters(remove_duplicate=False))
        tensors = load_file(str(file))
        if unknown := sorted(set(tensors) - set(known)):
            raise ValueError(f"its weights have {unknown} beyond its configuration")
        for name, tensor in tensors.items():
            if tensor.shape != known[name].shape:
                raise ValueError(f"{name} is {list(tensor.shape)}, not {list(known[name].shape)}")
            known[name].data = tensor.to(self._device, self._dtype)
        return {id(known[name]) for name in tensors}


def is_difference(path: str) -> bool:
    """Whether the folder `path` needs its parent to be a model."""
    folder = Path(path)
    return not (folder / _CONFIG).exists() and ((folder / _ADAPTER).exists() or (folder / _WEIGHTS).exists())


def _sharing(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with parameters of its own in the same memory: giving one a new tensor leaves the other model alone."""
    own = {id(parameter): Parameter(parameter.detach(), requires_grad=False) for parameter in model.parameters()}
    return copy.deepcopy(model, own | {id(buffer): buffer for buffer in model.buffers()})


def _merged(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """`model`, which shares its memory, with the LoRA in `folder` merged into tensors of its own."""
    from peft import PeftModel  # only where there are adapters: importing it takes a second

    head = model.get_output_embeddings()
    if model.config.tie_word_embeddings:  # an adapter on lm_head must not move the input embedding
        head.weight = Parameter(head.weight.detach(), requires_grad=False)
        model.config.tie_word_embeddings = False
    merged: PreTrainedModel = PeftModel.from_pretrained(model, folder).merge_and_unload(safe_merge=True)  # safe: not in place
    merged.eval()
    return merged


def _shape(folder: Path) -> str:
    if not (folder / _WEIGHTS).is_file():
        return ""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.name not in _ABOUT_WEIGHTS:
            digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token that ends a text: the model's own list (chat models have several) and the tokenizer's EOS."""
    own = model.generation_config.eos_token_id if model.generation_config else None
    listed = own if isinstance(own, list) else [own]
    found = frozenset(token for token in (*listed, tokenizer.eos_token_id) if token is not None)
    if not found:
        raise ValueError("neither the model nor its tokenizer names an end-of-sequence token")
    return found
