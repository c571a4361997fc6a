"""The refresh queue, for operators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from langptune.client.connection import Connection
from langptune.client.paging import pages
from langptune.client.values.refresh_queue import DeadRefresh, RefreshQueueDepth, dead_refresh_from_proto, depth_from_proto
from langptune.v1 import refresh_pb2, refresh_pb2_grpc


class RefreshQueueCalls(Connection):
    """RefreshQueueService."""

    @property
    def _refreshes(self) -> refresh_pb2_grpc.RefreshQueueServiceStub:
        return self._stub(refresh_pb2_grpc.RefreshQueueServiceStub)

    async def get_refresh_queue(self, *, timeout: float | None = None) -> RefreshQueueDepth:
        """How many profiles are to be written again, and for how long they have waited."""
        return depth_from_proto(await self._refreshes.GetRefreshQueue(refresh_pb2.GetRefreshQueueRequest(), timeout=timeout))

    async def list_dead_refreshes(self, *, page_size: int = 100) -> AsyncIterator[DeadRefresh]:
        """Refreshes that were given up, the oldest first."""
        request = refresh_pb2.ListDeadRefreshesRequest(page_size=page_size)
        async for response in pages(self._refreshes.ListDeadRefreshes, request):
            for dead in response.refreshes:
                yield dead_refresh_from_proto(dead)

    async def replay_dead_refreshes(self, user_ids: Sequence[str] = (), *, timeout: float | None = None) -> int:
        """Queue dead refreshes again: of these users, or the oldest 1,000. Returns how many there were."""
        request = refresh_pb2.ReplayDeadRefreshesRequest(user_ids=user_ids)
        return int((await self._refreshes.ReplayDeadRefreshes(request, timeout=timeout)).replayed)
