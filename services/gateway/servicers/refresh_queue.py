"""RefreshQueueService, for operators: translate in, ask the queue, translate out."""

# ruff: noqa: N802  # gRPC names the methods

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from langptune.convert import timestamp
from langptune.v1 import refresh_pb2, refresh_pb2_grpc
from services.gateway.refresh.queue import Dead, RefreshQueue


class RefreshQueueServicer(refresh_pb2_grpc.RefreshQueueServiceServicer):
    """RefreshQueueService."""

    def __init__(self, queue: RefreshQueue) -> None:
        self._queue = queue

    async def GetRefreshQueue(
        self, request: refresh_pb2.GetRefreshQueueRequest, context: Any
    ) -> refresh_pb2.GetRefreshQueueResponse:
        depth = await self._queue.depth()
        lag = Duration()
        lag.FromMilliseconds(round(depth.lag * 1_000))
        return refresh_pb2.GetRefreshQueueResponse(
            queued=depth.queued, running=depth.running, delayed=depth.delayed, dead=depth.dead, lag=lag
        )

    async def ListDeadRefreshes(
        self, request: refresh_pb2.ListDeadRefreshesRequest, context: Any
    ) -> refresh_pb2.ListDeadRefreshesResponse:
        page, token, total = await self._queue.dead(request.page_size, request.page_token)
        return refresh_pb2.ListDeadRefreshesResponse(refreshes=map(_dead, page), next_page_token=token, total_size=total)

    async def ReplayDeadRefreshes(
        self, request: refresh_pb2.ReplayDeadRefreshesRequest, context: Any
    ) -> refresh_pb2.ReplayDeadRefreshesResponse:
        replayed = await self._queue.replay(request.user_ids)
        return refresh_pb2.ReplayDeadRefreshesResponse(replayed=replayed, dead=(await self._queue.depth()).dead)


def _dead(dead: Dead) -> refresh_pb2.DeadRefresh:
    return refresh_pb2.DeadRefresh(
        user_id=dead.user_id, code=dead.code, message=dead.message, attempts=dead.attempts, time=timestamp(dead.time_ms)
    )
