"""What needs no model: Random, and Most Popular among the training users; items of the history are not ranked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from langptune.data.dataset import Dataset
from langptune.domain import Session
from langptune.evaluate.scores import Scores
from langptune.ranking import exact_ranks, ranking_quality


def random_scores(dataset: Dataset, sessions: Sequence[Session], cutoff: int) -> Scores:
    """The exact expectation under a uniformly random order; nothing is drawn.

    With n items and t targets each place holds a target with probability t/n, and the first stands at r with probability
    C(n-r, t-1) / C(n, t).
    """
    rows = [_expected(len(dataset.items) - len(_excluded(session)), len(session.target_item_ids), cutoff) for session in sessions]
    return Scores.of([session.user_id for session in sessions], rows)


def popularity_scores(dataset: Dataset, sessions: Sequence[Session], cutoff: int, seed: int = 0) -> Scores:
    """By how many training users have the item in history or targets; ties in an order drawn from `seed`."""
    position = {item_id: at for at, item_id in enumerate(dataset.items)}
    users: dict[str, set[str]] = {}
    for session in dataset.sessions("train"):
        seen = users.setdefault(session.user_id, set())
        seen.update(entry.item.item_id for entry in session.history)
        seen.update(session.target_item_ids)
    counts = np.zeros(len(position))
    for seen in users.values():
        counts[[position[item_id] for item_id in seen]] += 1
    scores = counts + np.random.default_rng(seed).permutation(len(counts)) / len(counts)  # ties broken by less than 1
    rows = []
    for session in sessions:
        targets = [position[item_id] for item_id in session.target_item_ids]
        ranks = exact_ranks(scores, targets, [position[item_id] for item_id in _excluded(session)])
        quality = ranking_quality(ranks, cutoff)
        rows.append((quality.ndcg, quality.recall, quality.mrr))
    return Scores.of([session.user_id for session in sessions], rows)


def excluded_items(session: Session) -> list[str]:
    """What is left out of a session's ranking: its history, less what is also a target."""
    return sorted(_excluded(session))


def _excluded(session: Session) -> set[str]:
    return {entry.item.item_id for entry in session.history} - set(session.target_item_ids)


def _expected(items: int, targets: int, cutoff: int) -> tuple[float, float, float]:
    last = min(cutoff, items)
    gain = sum(1.0 / math.log2(1 + place) for place in range(1, last + 1)) * targets / items
    ideal = sum(1.0 / math.log2(1 + place) for place in range(1, min(targets, cutoff) + 1))
    first = [math.comb(items - place, targets - 1) / math.comb(items, targets) for place in range(1, last + 1)]
    return gain / ideal, last / items, sum(chance / place for place, chance in enumerate(first, start=1))
