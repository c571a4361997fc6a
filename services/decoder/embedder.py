"""The embedder Phi: any sentence-transformers model, texts in, vectors of length 1 out.

The only place that knows sentence-transformers. `plan` groups texts by length into batches of bounded padding and `embed`
does one of them, so that the caller can let other work in between. Pooling, length limit and query prompt are the model's own
(mxbai-embed-large-v1: CLS, 512 tokens); the prompt is left out unless the settings want it, as in
the paper. One thread at a time.
"""

from __future__ import annotations

import math
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
_NO_LIMIT = 1 << 30  # tokens; of models without positions


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts of about the same length that are embedded together."""

    positions: Sequence[int]  # places in the list that was planned
    coverage: Sequence[float]  # share of each text's tokens that is read, above 0 to 1


class Embedder:
    """A loaded embedding model. `query_prompt` stands before every query, and before no item."""

    def __init__(self, model: SentenceTransformer, *, max_tokens: int, batch_tokens: int, query_prompt: str = "") -> None:
        own_limit = model.max_seq_length or max_tokens
        if math.isfinite(own_limit):
            model.max_seq_length = min(own_limit, max_tokens)
        self._model = model
        self._batch_tokens = batch_tokens
        self._query_prompt = query_prompt
        self.max_tokens = min(own_limit, max_tokens) if math.isfinite(own_limit) else _NO_LIMIT
        self.dimensions: int = int(model.get_embedding_dimension() or 0)
        # what else an item's vector depends on, besides model and text
        self.recipe = f"{self.max_tokens}-{model.dtype}" + (f"-{self.dimensions}d" if model.truncate_dim else "")

    @classmethod
    def load(cls, model: str, settings: DecoderSettings, device: str = "") -> Embedder:
        """From a folder or a hub id, on `device` or that of the settings.

        Raises FailedPrecondition when it cannot be loaded or lacks what the settings want of it.
        """
        folder = Path(model)
        if folder.is_absolute() or folder.is_dir():
            require_model_folder(folder)
        transformers_logging.disable_progress_bar()  # standard error is for log lines
        try:
            loaded = SentenceTransformer(
                model,
                device=device or settings.decoder_device,
                truncate_dim=settings.embedder_dimensions or None,
                model_kwargs={"dtype": _DTYPES[settings.decoder_dtype]},
            )
        except (OSError, ValueError, KeyError, RuntimeError, AttributeError, TypeError) as error:
            said = str(error).strip().splitlines()
            message = f"the embedding model {model} cannot be loaded: {said[0] if said else type(error).__name__}"
            raise FailedPrecondition(message, reason="MODEL_UNUSABLE") from error
        prompt = loaded.prompts.get("query") or "" if settings.embedder_query_prompt else ""
        if settings.embedder_query_prompt and not prompt:
            raise FailedPrecondition(f"the embedding model {model} has no query prompt of its own", reason="MODEL_UNUSABLE")
        return cls(loaded, max_tokens=settings.embedder_max_tokens, batch_tokens=settings.embed_batch_tokens, query_prompt=prompt)

    def count_tokens(self, texts: Sequence[str], *, queries: bool = False) -> list[int]:
        """Tokens of each text, special ones and (for queries) the prompt included, however many the model reads."""
        tokenizer = self._model.tokenizer
        prompted = [self._prompt(queries) + text for text in texts]
        if isinstance(tokenizer, PreTrainedTokenizerBase):
            return [len(ids) for ids in tokenizer(prompted, truncation=False, verbose=False)["input_ids"]]
        return [max(1, len(encoding.ids)) for encoding in tokenizer.encode_batch(prompted)]

    def plan(self, texts: Sequence[str], *, queries: bool = False) -> list[Batch]:
        """All `texts` in batches, longest first, each of at most `batch_tokens` tokens with padding, or one text."""
        if not texts:
            return []
        lengths = self.count_tokens(texts, queries=queries)
        order = sorted(range(len(texts)), key=lambda at: -lengths[at])
        batches: list[Batch] = []
        start = 0
        while start < len(order):
            widest = min(lengths[order[start]], self.max_tokens)
            taken = order[start : start + max(1, self._batch_tokens // widest)]
            batches.append(Batch(taken, [min(1.0, self.max_tokens / lengths[at]) for at in taken]))
            start += len(taken)
        return batches

    def embed(self, texts: Sequence[str], *, queries: bool = False) -> NDArray[np.float32]:
        """One batch: [texts, dimensions], each row of length 1. Raises FailedPrecondition for a model that yields no numbers."""
        vectors: NDArray[np.float32] = self._model.encode(
            list(texts),
            prompt=self._prompt(queries),
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

    def _prompt(self, queries: bool) -> str:
        return self._query_prompt if queries else ""


def require_model_folder(folder: Path) -> None:
    """Raises FailedPrecondition with what is missing."""
    if not folder.is_dir():
        raise FailedPrecondition(f"the model folder {folder} does not exist", reason="MODEL_MISSING")
    if not any((folder / name).is_file() for name in _MODULE_FILES):
        raise FailedPrecondition(f"{folder} is no model folder: it has no config.json", reason="MODEL_MISSING")
