"""NMF (Lee and Seung 1999): users and items as non-negative factors of the 0/1 matrix.

scikit-learn's `cd` solver: coordinate descent on the squared error, which is fast HALS (Cichocki and Phan 2009), a sweep over
components at a time. The paper names batch HALS with L2 loss: the same updates over blocks of rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning

from experiments.data import TrainingData
from experiments.systems.base import System
from langptune.domain import Session


@dataclass(frozen=True)
class NmfOptions:
    """Hyperparameters."""

    components: int = 32  # at most as many as there are users or items
    sweeps: int = 200


class NonNegativeFactors(System):
    """W [users, components] times H [components, items]."""

    def __init__(self, options: NmfOptions, seed: int) -> None:
        self._options = options
        self._seed = seed

    def fit(self, data: TrainingData) -> None:
        components = min(self._options.components, *data.matrix.shape)
        model = NMF(components, init="nndsvda", solver="cd", max_iter=self._options.sweeps, tol=1e-3, random_state=self._seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of sweeps is a choice
            self._users = model.fit_transform(data.matrix)
        self._items = model.components_
        self._rows = data.rows

    def scores(self, sessions: Sequence[Session]) -> NDArray[np.floating]:
        found: NDArray[np.floating] = self._users[self._rows(sessions)] @ self._items
        return found[:, None]
