"""RecommendationService: translate in, call the core, translate out."""

# ruff: noqa: N802  # gRPC names the methods

from __future__ import annotations

from typing import Any

from langptune.v1 import gateway_pb2, gateway_pb2_grpc
from services.gateway import metrics
from services.gateway.profiles.messages import pins_to_proto
from services.gateway.recommendations.previews import Previewer
from services.gateway.recommendations.recommender import Recommender


class RecommendationServicer(gateway_pb2_grpc.RecommendationServiceServicer):
    """RecommendationService."""

    def __init__(self, recommender: Recommender, previewer: Previewer) -> None:
        self._recommender = recommender
        self._previewer = previewer

    async def Recommend(self, request: gateway_pb2.RecommendRequest, context: Any) -> gateway_pb2.RecommendResponse:
        where = request.filter if request.HasField("filter") else None
        found = await self._recommender.recommend(
            request.user_id, request.k, explain=request.explain, avoid=request.avoid, where=where
        )
        metrics.RECOMMENDATIONS[found.basis].inc()
        return gateway_pb2.RecommendResponse(
            items=found.items,
            basis=gateway_pb2.RankingBasis.Value(f"RANKING_BASIS_{found.basis.name}"),
            basis_reason=found.reason,
            versions=pins_to_proto(found.pins),
            profile_revision=found.profile_revision,
            reasons=found.reasons,
        )

    async def Preview(self, request: gateway_pb2.PreviewRequest, context: Any) -> gateway_pb2.PreviewResponse:
        found = await self._previewer.preview(request.user_id, request.text, request.k)
        return gateway_pb2.PreviewResponse(
            items=found.items,
            leaving=found.leaving,
            basis=gateway_pb2.RankingBasis.Value(f"RANKING_BASIS_{found.query.basis.name}"),
            versions=pins_to_proto(found.query.pins),
            profile_revision=found.query.profile_revision,
        )
