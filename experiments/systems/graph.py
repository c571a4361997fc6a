"""LightGCN (He et al. 2020): embeddings smoothed over the user-item graph, learnt with BPR. The model and the loss are PyG's.

`GraphSystem` is what LightGCN and MCL share: the graph, the sampling of pairs nobody has seen, epochs and stopping.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch_geometric.nn.models import LightGCN

from experiments.data import TrainingData
from experiments.systems.base import System
from experiments.systems.stopping import Patience, fit_epochs, seeded
from langptune.domain import Session
from langptune.errors import FailedPrecondition


@dataclass(frozen=True)
class GraphOptions:
    """Hyperparameters of both."""

    dimension: int = 64
    layers: int = 3
    rate: float = 1e-3  # Adam
    batch_size: int = 1_000  # LightGCN: pairs; MCL: users
    decay: float = 1e-4  # of the squared norms of the embeddings in a batch
    patience: Patience = field(default_factory=Patience)


class GraphSystem(System):
    """The nodes are the users, then the items."""

    def __init__(self, options: GraphOptions, seed: int, alpha: float | None = None) -> None:
        self.options = options
        self._seed = seed
        self._alpha = alpha  # weight of each layer in the sum; None: their mean
        self._vectors: Sequence[Tensor] = ()  # of the users [users, D] and of the items [items, D], smoothed
        self._kept: Sequence[Tensor] = ()

    def fit(self, data: TrainingData) -> None:
        """Raises FailedPrecondition if some user has every item."""
        users, items = data.matrix.shape
        self._rows = data.rows
        self.known = torch.as_tensor(data.matrix.toarray() > 0)  # [users, items]
        if self.known.all(dim=1).any():
            raise FailedPrecondition("a user has every item of the catalogue: nothing is unseen", reason="NOTHING_UNSEEN")
        options = self.options
        with seeded(self._seed) as self._generator, _quiet_sparse():
            self._graph = as_tensor(normalised(data.matrix))
            layers = {"normalize": False}  # it is, once
            self.model = LightGCN(users + items, options.dimension, options.layers, self._alpha, **layers)
            self._optimizer = torch.optim.Adam(self.model.parameters(), lr=options.rate)
            self._look()
            fit_epochs(self, data, options.patience, self._seed, self._epoch, self._keep)
        self._vectors = self._kept

    @abstractmethod
    def batches(self) -> Sequence[Tensor]:
        """One epoch's batches, shuffled."""

    @abstractmethod
    def loss(self, nodes: Tensor, batch: Tensor) -> Tensor:
        """Of one batch, given all smoothed embeddings [users + items, D]."""

    def _epoch(self) -> None:
        self.model.train()
        for batch in self.batches():
            self._optimizer.zero_grad()
            loss = self.loss(self.model.get_embedding(self._graph), batch)
            loss.backward()
            self._optimizer.step()
        self._look()

    def _look(self) -> None:
        with torch.no_grad():
            nodes = self.model.get_embedding(self._graph)
        self._vectors = torch.split(nodes, list(self.known.shape))

    def _keep(self) -> None:
        self._kept = self._vectors

    @property
    def users(self) -> int:
        """How many; item i is node `users + i`."""
        return self.known.shape[0]

    def pairs(self) -> Tensor:
        """All (user, item) that are known, [E, 2]."""
        return self.known.nonzero()

    def shuffled(self, rows: Tensor) -> Sequence[Tensor]:
        """`rows` in a new order, cut into batches."""
        order = torch.randperm(len(rows), generator=self._generator)
        return torch.split(rows[order], self.options.batch_size)

    def unseen(self, users: Tensor, count: int) -> Tensor:  # [E] -> [E, count]
        """Items that each user has not, drawn evenly, with replacement."""
        items = self.known.shape[1]
        drawn = torch.randint(items, (len(users), count), generator=self._generator)
        while (wrong := self.known[users[:, None], drawn]).any():
            drawn[wrong] = torch.randint(items, (int(wrong.sum()),), generator=self._generator)
        return drawn

    def vectors(self, sessions: Sequence[Session]) -> tuple[Tensor, Tensor]:
        """Those of the sessions' users [users, D] and of all items [items, D]."""
        users, items = self._vectors
        return users[torch.as_tensor(self._rows(sessions))], items


class LightGcn(GraphSystem):
    """Mean of the layers, BPR with one unseen item a pair, inner products."""

    def batches(self) -> Sequence[Tensor]:
        return self.shuffled(self.pairs())

    def loss(self, nodes: Tensor, batch: Tensor) -> Tensor:
        users, liked = batch.T
        other = self.unseen(users, 1)[:, 0]
        places = torch.cat([users, self.users + liked, self.users + other])
        chosen = nodes[places].view(3, len(batch), -1)
        found: Tensor = self.model.recommendation_loss(
            (chosen[0] * chosen[1]).sum(1), (chosen[0] * chosen[2]).sum(1), node_id=places, lambda_reg=self.options.decay
        )
        return found

    def scores(self, sessions: Sequence[Session]) -> NDArray[np.floating]:
        users, items = self.vectors(sessions)
        return (users @ items.T).numpy()[:, None]


def normalised(matrix: sparse.csr_array) -> sparse.csr_array:
    """D^-1/2 A D^-1/2 of the graph whose edges `matrix` [users, items] has; [users + items, users + items], float32."""
    whole = sparse.block_array([[None, matrix], [matrix.T, None]], format="csr")
    degrees = np.asarray(whole.sum(axis=1)).ravel()
    scale = np.divide(1.0, np.sqrt(degrees), out=np.zeros_like(degrees), where=degrees > 0)
    return sparse.csr_array(sparse.diags_array(scale) @ whole @ sparse.diags_array(scale)).astype(np.float32)


def as_tensor(matrix: sparse.csr_array) -> Tensor:
    """The same in torch's CSR layout, which multiplies several times faster than lists of edges."""
    rows, columns = (torch.as_tensor(part.astype(np.int64)) for part in (matrix.indptr, matrix.indices))
    return torch.sparse_csr_tensor(rows, columns, torch.as_tensor(matrix.data), matrix.shape)


@contextmanager
def _quiet_sparse() -> Iterator[None]:
    """Torch warns that CSR is in beta, and that it does not check what scipy has made."""
    with warnings.catch_warnings(), torch.sparse.check_sparse_tensor_invariants(enable=False):
        warnings.filterwarnings("ignore", "Sparse CS[RC] tensor support is in beta state")
        yield
