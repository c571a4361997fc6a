"""Random and Most Popular: how hard the task is for who does not look at the user (Section 4.2.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.data import TrainingData
from experiments.systems.base import System
from langptune.domain import Session


@dataclass
class Random(System):
    """A shuffled list, drawn `samples` times for each user."""

    seed: int
    samples: int = 16

    def fit(self, data: TrainingData) -> None:
        self._items = len(data.items)

    def scores(self, sessions: Sequence[Session]) -> NDArray[np.floating]:
        return np.stack([self._draw(session.user_id) for session in sessions])

    def _draw(self, user_id: str) -> NDArray[np.floating]:
        digest = hashlib.blake2b(user_id.encode(), digest_size=8).digest()
        rng = np.random.default_rng([self.seed, int.from_bytes(digest)])
        return rng.random((self.samples, self._items))


@dataclass
class MostPopular(System):
    """By the number of users that have the item: in the training set, or in the history of a held-out user."""

    def fit(self, data: TrainingData) -> None:
        self._counts = np.asarray(data.matrix.sum(axis=0), dtype=np.float64)  # [items]

    def scores(self, sessions: Sequence[Session]) -> NDArray[np.floating]:
        return np.broadcast_to(self._counts, (len(sessions), 1, len(self._counts)))
