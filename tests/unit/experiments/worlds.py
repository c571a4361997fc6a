"""Generated worlds in which the order of the systems is known, because we know what a target follows from."""

from __future__ import annotations

import numpy as np

from experiments.data import Split, TrainingData
from langptune.domain import Interaction, Item, Session

HELD_OUT = 120  # users for validation, and as many for the test


def low_rank_world(seed: int, users: int = 600, items: int = 150, tastes: int = 6, skew: float = 0.7) -> Split:
    """Users have one of `tastes` and choose by it and by popularity: a matrix of low rank, no order, texts that say nothing.

    `skew`: standard deviation of the logits that all users share; the larger, the fewer items have most of the interactions.
    """
    rng = np.random.default_rng([seed, 101])
    kind = rng.integers(tastes, size=items)
    popularity = rng.normal(size=items)
    rows = []
    for _ in range(users):
        logits = 3.0 * (kind == rng.integers(tastes)) + skew * popularity + rng.gumbel(size=items)
        rows.append(rng.permutation(np.argsort(-logits)[:6]).tolist())
    return split(rows, items)


def sequential_world(seed: int, users: int = 640, items: int = 40) -> Split:
    """The next item is a fixed function of the last one; the items before it, and what others like, say nothing."""
    rng = np.random.default_rng([seed, 102])
    following = rng.permutation(items)
    rows = []
    for _ in range(users):
        history: list[int] = []
        while not history or following[history[-1]] in history:
            history = rng.permutation(items)[:4].tolist()
        rows.append([*history, int(following[history[-1]])])
    return split(rows, items)


def split(rows: list[list[int]], items: int) -> Split:
    """A user a row: the last item is the target; the last rows are held out."""
    catalogue = {f"i{at}": Item(f"i{at}", f"Item {at}") for at in range(items)}
    sessions = [
        Session(
            f"u{at}", tuple(Interaction(catalogue[f"i{item}"], 5.0) for item in row[:-1]), (f"i{row[-1]}",), _split(at, len(rows))
        )
        for at, row in enumerate(rows)
    ]
    by_split = {name: tuple(each for each in sessions if each.split == name) for name in ("train", "validation", "test")}
    histories = tuple(Session(each.user_id, each.history, (), each.split) for each in by_split["test"])
    return Split(TrainingData(catalogue, by_split["train"], by_split["validation"], histories, "items"), by_split["test"])


def _split(at: int, users: int) -> str:
    return "test" if at >= users - HELD_OUT else "validation" if at >= users - 2 * HELD_OUT else "train"
