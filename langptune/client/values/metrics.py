"""Ranking quality as it was measured."""

from __future__ import annotations

from dataclasses import dataclass

from langptune.v1 import common_pb2


@dataclass(frozen=True, slots=True)
class RankingMetrics:
    """Ranking quality, means over `users`; each 0.0 to 1.0."""

    ndcg: float
    recall: float
    mrr: float
    cutoff: int  # 0 is the whole catalogue
    users: int


def metrics_from_proto(message: common_pb2.RankingMetrics) -> RankingMetrics:
    return RankingMetrics(message.ndcg, message.recall, message.mrr, message.cutoff, message.users)
