"""MCL: LightGCN with the mixed-centric loss (Gao et al., WWW 2022), which mines hard pairs and weighs them against all others.

Distances are squared and Euclidean; the layers are summed, not averaged. The loss is a pure function, tested by hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.systems.graph import GraphOptions, GraphSystem
from langptune.domain import Session


@dataclass(frozen=True)
class MclOptions(GraphOptions):
    """Hyperparameters; defaults of the loss are Appendix B's, margin and decay those of the loss's authors."""

    negatives: int = 10  # unseen items a pair
    alpha: float = 1.25
    beta: float = 5.0
    lambda_p: float = 6.5
    lambda_n: float = -0.5
    margin: float = 1.0


def mixed_centric_loss(
    liked: Tensor,  # [E] squared distances of users to items they have
    unseen: Tensor,  # [E, W] squared distances of the same users to items they have not
    user_of: Tensor,  # [E] 0 .. N-1, each at least once
    options: MclOptions,
) -> Tensor:
    """ln(1 + sum exp(-beta (d + lambda_n)) / N) / beta over the mined unseen pairs + its mirror image over the mined liked ones.

    Mined: unseen items that are no farther than the user's farthest liked item + margin; liked items that are no nearer than the
    user's nearest unseen item - margin.
    """
    users = int(user_of.max()) + 1
    with torch.no_grad():
        farthest = liked.new_full((users,), -torch.inf).scatter_reduce(0, user_of, liked, "amax")
        nearest = liked.new_full((users,), torch.inf).scatter_reduce(0, user_of, unseen.min(dim=1).values, "amin")
    near = unseen[unseen < farthest[user_of][:, None] + options.margin]
    far = liked[liked > nearest[user_of] - options.margin]
    push = _log_one_plus(-options.beta * (near + options.lambda_n), users) / options.beta
    pull = _log_one_plus(options.alpha * (far + options.lambda_p), users) / options.alpha
    return push + pull


def _log_one_plus(exponents: Tensor, users: int) -> Tensor:
    """ln(1 + sum exp(exponents) / users), without overflow."""
    return torch.logsumexp(torch.cat([exponents.new_zeros(1), exponents - math.log(users)]), dim=0)


class Mcl(GraphSystem):
    """Batches of users with all of their items."""

    def __init__(self, options: MclOptions, seed: int) -> None:
        super().__init__(options, seed, alpha=1.0)
        self._loss_options = options

    def batches(self) -> Sequence[Tensor]:
        return self.shuffled(torch.arange(self.users))

    def loss(self, nodes: Tensor, batch: Tensor) -> Tensor:
        options = self._loss_options
        rows, liked = self.known[batch].nonzero().T  # rows of the batch
        _, user_of = rows.unique(return_inverse=True)
        users = batch[rows]
        unseen = self.unseen(users, options.negatives)
        starts = nodes[users]
        to_liked = (starts - nodes[self.users + liked]).square().sum(1)
        to_unseen = (starts[:, None] - nodes[self.users + unseen]).square().sum(2)
        return mixed_centric_loss(to_liked, to_unseen, user_of, options) + options.decay * self._size(users, liked, unseen)

    def _size(self, users: Tensor, liked: Tensor, unseen: Tensor) -> Tensor:
        """Half the mean squared norms of the embeddings that the batch begins with."""
        own = self.model.embedding.weight
        parts = (users, self.users + liked, self.users + unseen.flatten())
        return torch.stack([own[part].square().sum(1).mean() for part in parts]).sum() / 2

    def scores(self, sessions: Sequence[Session]) -> NDArray[np.floating]:
        users, items = self.vectors(sessions)
        return -torch.cdist(users, items).square().numpy()[:, None]
