"""What users did: recorded, imported, listed."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence

from langptune.client.chunks import Progress, interaction_requests
from langptune.client.connection import IMPORT_TIMEOUT, Connection
from langptune.client.paging import pages
from langptune.client.values.imports import ImportedInteractions, imported_interactions_from_proto
from langptune.client.values.interactions import (
    NewInteraction,
    Recorded,
    interaction_from_proto,
    new_interaction_to_proto,
    recorded_from_proto,
)
from langptune.domain import Interaction
from langptune.v1 import gateway_pb2, gateway_pb2_grpc


class InteractionCalls(Connection):
    """InteractionService."""

    @property
    def _interactions(self) -> gateway_pb2_grpc.InteractionServiceStub:
        return self._stub(gateway_pb2_grpc.InteractionServiceStub)

    async def record_interactions(
        self,
        user_id: str,
        interactions: Sequence[Interaction | NewInteraction],
        *,
        request_id: str = "",
        timeout: float | None = None,
    ) -> Recorded:
        """Add 1 to 1,000 interactions to a user's history: all, or none.

        Idempotent by item and time, and by `request_id`: sent again with the same one, it has its first answer and changes
        nothing. Raises AlreadyExists for a `request_id` that was given to other interactions.
        """
        entries = [new_interaction_to_proto(entry, stamped=not request_id) for entry in interactions]
        request = gateway_pb2.RecordInteractionsRequest(user_id=user_id, interactions=entries, request_id=request_id)
        response = await self._interactions.RecordInteractions(request, timeout=timeout)
        return recorded_from_proto(response)

    async def import_interactions(
        self,
        source: Iterable[tuple[str, Interaction | NewInteraction]] | AsyncIterable[tuple[str, Interaction | NewInteraction]],
        *,
        progress: Progress | None = None,
        timeout: float | None = IMPORT_TIMEOUT,
    ) -> ImportedInteractions:
        """Add (user id, interaction) pairs; a bad one is rejected and reported. Fastest with each user's pairs together.

        `progress` is called with the number of pairs sent so far.
        """
        response = await self._interactions.ImportInteractions(interaction_requests(source, progress), timeout=timeout)
        return imported_interactions_from_proto(response)

    async def list_interactions(self, user_id: str, *, page_size: int = 100) -> AsyncIterator[Interaction]:
        """A user's history with whole items, newest first."""
        request = gateway_pb2.ListInteractionsRequest(user_id=user_id, page_size=page_size)
        async for response in pages(self._interactions.ListInteractions, request):
            for entry in response.interactions:
                yield interaction_from_proto(entry)
