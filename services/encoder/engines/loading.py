"""From a model folder or hub id to a model that is ready to write. The one place that loads models.

Versions that training makes differ from their base in the weights alone. For such a folder the tokenizer and the configuration
of a version that is loaded already serve again, and only the tensors are read: a load every training batch is cheap.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from langptune.errors import FailedPrecondition
from services.encoder.engines.attention import prepare
from services.encoder.prompts import PromptBuilder

_WEIGHTS = "model.safetensors"
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
        try:
            return self._load_like(path, twin) if twin else self._load_whole(path, shape)
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
        model = copy.deepcopy(twin.model)
        missing, unexpected = model.load_state_dict(load_file(str(Path(path) / _WEIGHTS)), strict=False)
        lacking = set(missing) - set(model.all_tied_weights_keys)  # a tied tensor is stored once
        if lacking or unexpected:
            raise ValueError(f"its weights lack {sorted(lacking)} and have {sorted(unexpected)} beyond its configuration")
        return LoadedModel(model, twin.tokenizer, twin.prompts, twin.stop_ids, twin.context, twin.shape)


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
