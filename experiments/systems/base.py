"""The interface of every system: fit once, then score all items for any of the users that it was fitted with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.data import TrainingData
from langptune.domain import Session


class System(ABC):
    """One recommender with its hyperparameters. The same seed and data give the same scores on one machine."""

    @abstractmethod
    def fit(self, data: TrainingData) -> None:
        """Learn from `data`; validation sessions are for choosing only, e.g. when to stop."""

    @abstractmethod
    def scores(self, sessions: Sequence[Session]) -> NDArray[np.floating]:
        """How much each user likes each item, higher is better: [users, samples, items] in the order of `data.items`.

        Several samples where a profile is drawn at random, otherwise one. Targets are not looked at; the caller masks histories.
        """

    def save(self, folder: Path) -> None:
        """Write what else the run has to show (profiles, training curve, weights) beside its scores; by default nothing."""
        return
