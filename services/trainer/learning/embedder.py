"""The embedder Phi as the trainer sees it: unit vectors with gradients, one InfoNCE step, and a folder to publish.

Dropout is off, so that how texts are grouped never changes a result. Left out: cached negatives (GradCache), negatives of
other processes, query prompts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn import functional

from services.trainer.learning.config import ContrastiveConfig
from services.trainer.learning.contrastive import false_negatives, info_nce
from services.trainer.learning.optimizer import adamw, gradient_norm, set_rate


class Embedder:
    """A SentenceTransformer in evaluation mode (no dropout) whose vectors carry gradients."""

    def __init__(self, model: SentenceTransformer, rows: int) -> None:
        self.model = model.eval()
        self.rows = rows  # texts per forward pass

    @classmethod
    def load(cls, folder: str | Path, rows: int = 32) -> Embedder:
        """From a sentence-transformers folder or hub id, in float32."""
        return cls(SentenceTransformer(str(folder), model_kwargs={"dtype": torch.float32}), rows)

    def embed(self, texts: Sequence[str]) -> Tensor:  # [N, D]
        """Unit vectors in the order of `texts`, cut at the model's length limit; with the graph if gradients are on."""
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        parts = [order[start : start + self.rows] for start in range(0, len(order), self.rows)]
        vectors = torch.cat([self._forward([texts[at] for at in part]) for part in parts])
        places = torch.empty(len(texts), dtype=torch.long)
        places[torch.tensor(order)] = torch.arange(len(texts))
        return functional.normalize(vectors.index_select(0, places.to(vectors.device)), dim=1)

    def _forward(self, texts: list[str]) -> Tensor:
        features = self.model.preprocess(texts)
        on_device = {key: value.to(self.model.device) if isinstance(value, Tensor) else value for key, value in features.items()}
        vectors: Tensor = self.model(on_device)["sentence_embedding"]
        return vectors

    def save(self, folder: Path) -> None:
        """A complete sentence-transformers folder."""
        self.model.save(str(folder), create_model_card=False)


@dataclass(frozen=True, slots=True)
class ContrastiveExample:
    """One row of a CL batch."""

    query: str  # the profile, or D(h) itself for NoProfile
    target_item_id: str
    target_text: str
    known_item_ids: Collection[str]  # no negatives for this row: the history's items and further targets


@dataclass(frozen=True, slots=True)
class ContrastiveUpdate:
    """What one CL step did."""

    loss: float
    gradient_norm: float
    accuracy: float  # share of rows whose positive scores above all of its negatives


class EmbedderLearner:
    """The embedder with the one optimizer that moves it."""

    def __init__(self, embedder: Embedder, config: ContrastiveConfig) -> None:
        self.embedder = embedder
        self.config = config
        self.optimizer = adamw(embedder.model.parameters(), config.learning_rate, config.weight_decay)

    def update(self, examples: Sequence[ContrastiveExample], rate: float) -> ContrastiveUpdate:
        """One optimizer step of Eq. 10 at learning rate `rate`."""
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad()
        vectors = self.embedder.embed([row.query for row in examples] + [row.target_text for row in examples])
        queries, items = torch.split(vectors, len(examples))
        targets = [row.target_item_id for row in examples]
        masked = false_negatives(targets, [row.known_item_ids for row in examples]).to(vectors.device)
        loss = info_nce(queries, items, masked, self.config.temperature)
        torch.autograd.backward(loss)
        norm = gradient_norm(self.embedder.model.parameters())
        self.optimizer.step()
        scores = (queries @ items.T).detach().masked_fill(masked, -torch.inf)
        right = scores.argmax(dim=1) == torch.arange(len(examples), device=scores.device)
        return ContrastiveUpdate(loss.item(), norm, right.float().mean().item())

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer."""
        return {"weights": self.embedder.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The opposite of `state_dict`."""
        self.embedder.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
