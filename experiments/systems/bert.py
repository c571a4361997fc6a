"""BERT4Rec (Sun et al. 2019) and LLM2BERT4Rec (Harte et al. 2023): a two-way transformer that fills masked places of a sequence.

The model is transformers' BERT over items. LLM2BERT4Rec is the same with item embeddings that begin as the text embedder's
vectors of the items, reduced to the hidden size by principal components. Ranked is by the logits of a mask after the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM

from experiments.data import TrainingData
from experiments.systems.base import System
from experiments.systems.stopping import Patience, fit_epochs, seeded
from langptune.domain import Session
from langptune.text import item_text
from services.trainer.learning.embedder import Embedder

PAD, MASK, SPECIAL = 0, 1, 2  # item i is token SPECIAL + i
IGNORED = -100  # a place that is no question


@dataclass(frozen=True)
class BertOptions:
    """Hyperparameters."""

    hidden: int = 64
    blocks: int = 2
    heads: int = 2
    dropout: float = 0.1
    mask_share: float = 0.5  # of the places
    last_share: float = 0.1  # of the sequences: only the last place is masked, which is the question at the end
    batch_size: int = 128
    rate: float = 1e-3  # Adam
    decay_step: int = 25  # epochs, then a tenth of the rate
    longest: int = 50  # newest items of a sequence that count
    text_scale: float = 0.1  # LLM2BERT4Rec: standard deviation of the embeddings that it begins with
    patience: Patience = field(default_factory=Patience)


class Bert4Rec(System):
    """`embedder` (a folder or hub id) makes it LLM2BERT4Rec."""

    def __init__(self, options: BertOptions, seed: int, embedder: str | None = None) -> None:
        self.options = options
        self._seed = seed
        self._embedder = embedder

    def fit(self, data: TrainingData) -> None:
        options = self.options
        self._history = data.history
        sequences = [data.sequence(session) for session in data.train]
        sequences += [data.history(session) for session in (*data.validation, *data.test_histories)]
        longest = min(options.longest, max(len(sequence) for sequence in sequences) + 1)
        self._rows = _padded([sequence[-longest:] for sequence in sequences])
        with seeded(self._seed) as self._generator:
            self.model = BertForMaskedLM(_config(options, len(data.items), longest))
            if self._embedder is not None:
                self._begin_with(text_vectors(self._embedder, data, options.hidden))
            self._optimizer = torch.optim.Adam(self.model.parameters(), lr=options.rate)
            self._schedule = torch.optim.lr_scheduler.StepLR(self._optimizer, options.decay_step)
            fit_epochs(self, data, options.patience, self._seed, self._epoch, self._keep)
        self.model.load_state_dict(self._kept)

    def _begin_with(self, vectors: NDArray[np.floating]) -> None:  # [items, <= hidden]
        with torch.no_grad():
            weights = self.model.bert.embeddings.word_embeddings.weight
            scaled = vectors / vectors.std() * self.options.text_scale
            weights[SPECIAL:, : vectors.shape[1]] = torch.as_tensor(scaled, dtype=weights.dtype)

    def _epoch(self) -> None:
        self.model.train()
        order = torch.randperm(len(self._rows), generator=self._generator)
        for part in torch.split(order, self.options.batch_size):
            questions, answers = masked(self._rows[part], self.options, self._generator)
            self._optimizer.zero_grad()
            loss = functional.cross_entropy(self._logits(questions, answers != IGNORED), answers[answers != IGNORED] - SPECIAL)
            loss.backward()
            self._optimizer.step()
        self._schedule.step()

    def _logits(self, questions: Tensor, where: Tensor) -> Tensor:
        """Of all items at the places `where` [B, L]; [places, items]."""
        hidden = self.model.bert(questions, attention_mask=(questions != PAD).long()).last_hidden_state
        found: Tensor = self.model.cls(hidden[where])
        return found[:, SPECIAL:]

    def _keep(self) -> None:
        self._kept = {name: value.clone() for name, value in self.model.state_dict().items()}

    @torch.no_grad()
    def scores(self, sessions: Sequence[Session]) -> NDArray[np.floating]:
        self.model.eval()
        room = self.model.config.max_position_embeddings - 1
        rows = _padded([[*self._history(session)[-room:], MASK - SPECIAL] for session in sessions])
        return self._logits(rows, rows == MASK).numpy()[:, None]


def masked(rows: Tensor, options: BertOptions, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(questions, answers), both [B, L]: at least one place of each row is masked, and only masked places have answers."""
    real = rows != PAD
    last = real.sum(1) - 1
    drawn = torch.rand(rows.shape, generator=generator).masked_fill(~real, 1.0)
    chosen = drawn < options.mask_share
    chosen |= (drawn == drawn.min(dim=1, keepdim=True).values) & real  # where none was drawn, the one that came nearest
    only_last = torch.rand(len(rows), generator=generator) < options.last_share
    chosen[only_last] = False
    chosen[only_last, last[only_last]] = True
    return rows.masked_fill(chosen, MASK), rows.masked_fill(~chosen, IGNORED)


def text_vectors(embedder: str, data: TrainingData, size: int) -> NDArray[np.floating]:
    """The first `size` principal components of the items' text embeddings (fewer if there are no more); [items, components]."""
    model = Embedder.load(embedder)
    with torch.no_grad():
        vectors = model.embed([item_text(item) for item in data.items.values()]).numpy()
    found: NDArray[np.floating] = PCA(min(size, *vectors.shape), random_state=0).fit_transform(vectors)
    return found


def _padded(sequences: Sequence[Sequence[int]]) -> Tensor:
    """[sequences, longest] of tokens, PAD behind."""
    rows = torch.full((len(sequences), max(len(sequence) for sequence in sequences)), PAD)
    for row, sequence in zip(rows, sequences, strict=True):
        row[: len(sequence)] = torch.tensor(sequence) + SPECIAL
    return rows


def _config(options: BertOptions, items: int, longest: int) -> BertConfig:
    return BertConfig(
        vocab_size=SPECIAL + items,
        hidden_size=options.hidden,
        num_hidden_layers=options.blocks,
        num_attention_heads=options.heads,
        intermediate_size=4 * options.hidden,
        hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.dropout,
        max_position_embeddings=longest,
        pad_token_id=PAD,
    )
