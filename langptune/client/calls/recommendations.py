"""What to recommend."""

from __future__ import annotations

from collections.abc import Sequence

from langptune.client.connection import Connection
from langptune.client.values.filters import ItemFilter, item_filter_to_proto
from langptune.client.values.recommendations import Preview, Recommendation, preview_from_proto, recommendation_from_proto
from langptune.v1 import gateway_pb2, gateway_pb2_grpc


class RecommendationCalls(Connection):
    """RecommendationService."""

    @property
    def _recommendations(self) -> gateway_pb2_grpc.RecommendationServiceStub:
        return self._stub(gateway_pb2_grpc.RecommendationServiceStub)

    async def recommend(
        self,
        user_id: str,
        k: int = 10,
        *,
        explain: bool = False,
        where: ItemFilter | None = None,
        avoid: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Recommendation:
        """The best `k` (1 to 100) items for a user, without those that the user has interacted with.

        With `explain` also the sentence of the profile that speaks most for each; with `where` only items that it passes; `avoid`
        is added to what the user avoids always. Raises InvalidArgument for a field that cannot be filtered by.
        """
        request = gateway_pb2.RecommendRequest(
            user_id=user_id,
            k=k,
            explain=explain,
            filter=item_filter_to_proto(where) if where else None,
            avoid=avoid,
        )
        return recommendation_from_proto(await self._recommendations.Recommend(request, timeout=timeout))

    async def preview(self, user_id: str, text: str, k: int = 10, *, timeout: float | None = None) -> Preview:
        """The ranking by an unsaved text, and how far each item would move; nothing is stored."""
        request = gateway_pb2.PreviewRequest(user_id=user_id, text=text, k=k)
        return preview_from_proto(await self._recommendations.Preview(request, timeout=timeout))
