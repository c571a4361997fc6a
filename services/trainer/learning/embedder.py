"""The embedder Phi as the trainer sees it: unit vectors with gradients, one InfoNCE step, and a folder to publish.

Dropout is off, so that how texts are grouped never changes a result. Left out: query prompts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn import functional

from langptune.domain import Interaction
from langptune.text import fitted_text, history_text
from services.trainer.learning.config import ContrastiveConfig
from services.trainer.learning.contrastive import false_negatives, info_nce
from services.trainer.learning.parallel import ALONE, Parallel, Weights, lent, share

NO_NEGATIVES: Mapping[str, str] = MappingProxyType({})


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
        parts = self.parts(texts)
        vectors = torch.cat([self._forward([texts[at] for at in part]) for part in parts])
        places = torch.empty(len(texts), dtype=torch.long)
        places[torch.tensor([at for part in parts for at in part])] = torch.arange(len(texts))
        return functional.normalize(vectors.index_select(0, places.to(vectors.device)), dim=1)

    def parts(self, texts: Sequence[str]) -> list[list[int]]:
        """Positions of `texts` by length, as many at a time as one forward pass takes."""
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        return [order[start : start + self.rows] for start in range(0, len(order), self.rows)]

    def text_of(self, history: Sequence[Interaction]) -> str:
        """D(h) as the model can read it: its newest entries (NoProfile, Section 4.2)."""
        tokenizer, limit = self.model.tokenizer, self.model.max_seq_length
        if limit is None:
            return history_text(history)
        return fitted_text(history, limit, lambda text: len(tokenizer(text, truncation=False, verbose=False)["input_ids"]))

    def _forward(self, texts: list[str]) -> Tensor:
        features = self.model.preprocess(texts)
        on_device = {key: value.to(self.model.device) if isinstance(value, Tensor) else value for key, value in features.items()}
        vectors: Tensor = self.model(on_device)["sentence_embedding"]
        return vectors

    def save(self, folder: Path, weights: Weights | None = None) -> None:
        """A complete sentence-transformers folder, of `weights` where they are not to be found in the model (`Stepper.save`)."""
        with lent(self.model, weights or {}):
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

    def __init__(self, embedder: Embedder, config: ContrastiveConfig, parallel: Parallel = ALONE) -> None:
        self.embedder = embedder
        self.config = config
        self.parallel = parallel
        self.stepper = parallel.stepper(
            embedder.model,
            embedder.embed,
            dict(embedder.model.named_parameters()),
            config.learning_rate,
            config.weight_decay,
        )

    def update(
        self, examples: Sequence[ContrastiveExample], rate: float, negatives: Mapping[str, str] = NO_NEGATIVES
    ) -> ContrastiveUpdate:
        """One optimizer step of Eq. 10 at learning rate `rate`; `negatives` are the texts of further items by their id.

        Every process is given the whole batch and embeds its share; the loss is over all rows and all items of the batch.
        """
        mine = examples[share(self.parallel, len(examples))]
        padded = [*negatives.values(), *[""] * (-len(negatives) % self.parallel.count)]  # so that processes share it evenly
        further = padded[share(self.parallel, len(padded))]
        texts = [row.query for row in mine] + [row.target_text for row in mine] + further
        vectors = self._vectors(texts)
        parts = torch.split(vectors, [len(mine), len(mine), len(further)])
        queries, items, *others = (self.parallel.gather(part) for part in parts if len(part))
        items = torch.cat([items, *others])[: len(examples) + len(negatives)]
        targets = [row.target_item_id for row in examples]
        masked = false_negatives(targets, [row.known_item_ids for row in examples], list(negatives)).to(vectors.device)
        loss = info_nce(queries, items, masked, self.config.temperature)
        self._backward(loss, vectors, texts)
        norm = self.stepper.step(rate)
        scores = (queries @ items.T).detach().masked_fill(masked, -torch.inf)
        right = scores.argmax(dim=1) == torch.arange(len(examples), device=scores.device)
        return ContrastiveUpdate(loss.item(), norm, right.float().mean().item())

    def _vectors(self, texts: Sequence[str]) -> Tensor:
        """With the graph of the model; cached: without, as leaves that the loss is differentiated by."""
        if not self.config.cached:
            return self.stepper.forward(texts)
        with torch.no_grad():
            vectors = self.stepper.forward(texts)
        return vectors.requires_grad_()

    def _backward(self, loss: Tensor, vectors: Tensor, texts: Sequence[str]) -> None:
        """Gradients of the parameters. Cached: those of the vectors first, then part by part through a second forward pass."""
        if not self.config.cached:
            self.stepper.backward(loss, last=True)
            return
        (wanted,) = torch.autograd.grad(loss, vectors)
        parts = self.embedder.parts(texts)
        for part in parts:
            again = self.stepper.forward([texts[at] for at in part])
            self.stepper.backward((again * wanted[part]).sum(), last=part is parts[-1])

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer."""
        return self.stepper.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The opposite of `state_dict`."""
        self.stepper.load_state_dict(state)

    def save(self, folder: Path) -> None:
        """The embedder's whole folder (`Saveable`)."""
        self.stepper.save(lambda weights: self.embedder.save(folder, weights))
