"""Training in epochs: seeded, watched on validation users, ended when they gain nothing any more, the best state kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from experiments.data import TrainingData
from experiments.scoring import mean_ndcg
from experiments.systems.base import System


@dataclass(frozen=True)
class Patience:
    """When to look, and when to stop."""

    epochs: int = 100  # at most
    every: int = 5  # epochs between two looks
    looks: int = 4  # without a gain, then stop


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Torch's own generator starts at `seed` inside, and is as before outside; yields one of the caller's own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def fit_epochs(
    system: System, data: TrainingData, patience: Patience, seed: int, epoch: Callable[[], None], keep: Callable[[], None]
) -> int:
    """Run `epoch` again and again; `keep` is called when validation NDCG@20 has never been as high. Returns the best epoch."""
    best, kept_at, without = -1.0, 0, 0
    for done in range(1, patience.epochs + 1):
        epoch()
        if done % patience.every and done < patience.epochs:
            continue
        quality = mean_ndcg(system, data, data.validation, seed)
        without += 1
        if quality > best:
            best, kept_at, without = quality, done, 0
            keep()
        if without >= patience.looks:
            break
    return kept_at
