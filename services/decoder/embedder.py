"""The embedder Phi: any sentence-transformers model, texts in, vectors of length 1 out.

The only place that knows sentence-transformers. `plan` groups texts by length into batches of bounded padding and `embed`
does one of them, so that the caller can let other work in between. No query prompt is put in front of a text (as in the
paper). One thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from langptune.errors import FailedPrecondition
from services.decoder.settings import DecoderSettings

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MODULE_FILES = ("modules.json", "config.json")


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts of about the same length that are embedded together."""

    positions: Sequence[int]  # places in the list that was planned
    truncated: Sequence[bool]  # whether each is over the embedder's limit


class Embedder:
    """A loaded embedding model."""

    def __init__(self, model: SentenceTransformer, *, max_tokens: int, batch_tokens: int) -> None:
        own_limit = model.max_seq_length or max_tokens
        model.max_seq_length = min(own_limit, max_tokens)
        self._model = model
        self._batch_tokens = batch_tokens
        self.max_tokens: int = model.max_seq_length
        self.dimensions: int = int(model.get_embedding_dimension() or 0)
        self.recipe = f"{self.max_tokens}-{model.dtype}"  # what else a vector depends on, besides model and text

    @classmethod
    def load(cls, model: str, settings: DecoderSettings) -> Embedder:
        """From a folder or a hub id. Raises FailedPrecondition when it cannot be loaded."""
        folder = Path(model)
        if folder.is_absolute() or folder.is_dir():
            require_model_folder(folder)
        transformers_logging.disable_progress_bar()  # standard error is for log lines
        try:
            loaded = SentenceTransformer(
                model,
                device=settings.decoder_device,
                model_kwargs={"dtype": _DTYPES[settings.decoder_dtype]},
            )
        except (OSError, ValueError, KeyError, RuntimeError, AttributeError, TypeError) as error:
            said = str(error).strip().splitlines()
            message = f"the embedding model {model} cannot be loaded: {said[0] if said else type(error).__name__}"
            raise FailedPrecondition(message, reason="MODEL_UNUSABLE") from error
        if not isinstance(loaded.tokenizer, PreTrainedTokenizerBase):
            raise FailedPrecondition(f"the embedding model {model} has no transformers tokenizer", reason="MODEL_UNUSABLE")
        return cls(loaded, max_tokens=settings.embedder_max_tokens, batch_tokens=settings.embed_batch_tokens)

    def plan(self, texts: Sequence[str]) -> list[Batch]:
        """All `texts` in batches, longest first, each of at most `batch_tokens` tokens with padding, or one text."""
        if not texts:
            return []
        lengths = [len(ids) for ids in self._model.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]]
        order = sorted(range(len(texts)), key=lambda at: -lengths[at])
        batches: list[Batch] = []
        while order:
            widest = min(lengths[order[0]], self.max_tokens)
            rows = max(1, self._batch_tokens // widest)
            taken, order = order[:rows], order[rows:]
            batches.append(Batch(taken, [lengths[at] > self.max_tokens for at in taken]))
        return batches

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One batch: [texts, dimensions], each row of length 1. Raises FailedPrecondition for a model that yields no numbers."""
        vectors: NDArray[np.float32] = self._model.encode(
            list(texts),
            prompt="",
            batch_size=len(texts),
            show_progress_bar=False,
            convert_to_numpy=True,
        ).astype(np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not lengths.all():
            message = "the embedding model yields vectors that are zero or not numbers"
            raise FailedPrecondition(message, reason="MODEL_UNUSABLE")
        normalised: NDArray[np.float32] = vectors / lengths
        return normalised


def require_model_folder(folder: Path) -> None:
    """Raises FailedPrecondition with what is missing."""
    if not folder.is_dir():
        raise FailedPrecondition(f"the model folder {folder} does not exist", reason="MODEL_MISSING")
    if not any((folder / name).is_file() for name in _MODULE_FILES):
        raise FailedPrecondition(f"{folder} is no model folder: it has no config.json", reason="MODEL_MISSING")
