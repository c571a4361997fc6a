"""The one piece of code that scores every system: exact ranks of the targets, the history masked, then Recall, MRR and NDCG.

Items with equal scores stand in an order drawn from the seed, the same for every system: a system that cannot tell items apart
ranks as Random does (`langptune.ranking` alone would put its targets first).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.data import TrainingData
from experiments.systems.base import System
from langptune.domain import Session
from langptune.errors import Internal
from langptune.evaluate import Scores
from langptune.evaluate.baselines import excluded_items
from langptune.ranking import ranking_quality

CUTOFF = 20  # Section 4.1
USERS_AT_A_TIME = 128


@dataclass(frozen=True)
class Ranked:
    """Where the targets of some users stand."""

    scores: Scores  # per user, the mean over that user's samples
    ranks: NDArray[np.int64]  # [users, samples], of the best target, from 1


def rank_users(system: System, data: TrainingData, sessions: Sequence[Session], seed: int, cutoff: int = CUTOFF) -> Ranked:
    """Score `sessions` (which must not be empty), chunk by chunk. Raises Internal for scores that are not finite."""
    order = np.random.default_rng([seed, 11]).permutation(len(data.items))
    best: list[list[int]] = []
    rows: list[tuple[float, float, float]] = []
    for start in range(0, len(sessions), USERS_AT_A_TIME):
        part = sessions[start : start + USERS_AT_A_TIME]
        scores = system.scores(part)
        if not np.isfinite(scores).all():  # nothing is above NaN: its owner would rank first
            raise Internal(f"{type(system).__name__} gives scores that are not finite")
        for session, samples in zip(part, scores, strict=True):
            ranks = [target_ranks(row, data, session, order) for row in samples]
            qualities = [ranking_quality(places, cutoff) for places in ranks]
            best.append([min(places) for places in ranks])
            ndcg, recall, mrr = np.mean([(each.ndcg, each.recall, each.mrr) for each in qualities], axis=0).tolist()
            rows.append((ndcg, recall, mrr))
    return Ranked(Scores.of([session.user_id for session in sessions], rows), np.array(best))


def target_ranks(scores: NDArray[np.floating], data: TrainingData, session: Session, order: NDArray[np.intp]) -> list[int]:
    """The rank of each target: 1 + items above it, + those level with it and earlier in `order`; `scores` is [items]."""
    ranked = np.ones(len(scores), dtype=bool)
    ranked[[data.positions[item_id] for item_id in excluded_items(session)]] = False
    ranks = []
    for item_id in session.target_item_ids:
        at = data.positions[item_id]
        ahead = (scores > scores[at]) | ((scores == scores[at]) & (order < order[at]))
        ranks.append(1 + int(np.count_nonzero(ahead & ranked)))
    return ranks


def mean_ndcg(system: System, data: TrainingData, sessions: Sequence[Session], seed: int) -> float:
    """What hyperparameters and stopping times are chosen by."""
    return float(rank_users(system, data, sessions, seed).scores.ndcg.mean())
