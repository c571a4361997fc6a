"""InteractionService: translate in, call the core, translate out."""

# ruff: noqa: N802  # gRPC names the methods

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from langptune.convert import check_id
from langptune.errors import InvalidArgument, NotFound
from langptune.v1 import gateway_pb2, gateway_pb2_grpc
from services.gateway.interactions.histories import Histories
from services.gateway.interactions.imports import InteractionImport
from services.gateway.interactions.messages import entry_from_proto, entry_to_proto, request_name
from services.gateway.interactions.store import MAX_RECORDED, Interactions
from services.gateway.peers.decoder import Decoder
from services.gateway.refresh.queue import RefreshQueue


class InteractionServicer(gateway_pb2_grpc.InteractionServiceServicer):
    """InteractionService."""

    def __init__(self, interactions: Interactions, histories: Histories, decoder: Decoder, queue: RefreshQueue) -> None:
        self._queue = queue
        self._interactions = interactions
        self._histories = histories
        self._decoder = decoder

    async def RecordInteractions(
        self, request: gateway_pb2.RecordInteractionsRequest, context: Any
    ) -> gateway_pb2.RecordInteractionsResponse:
        user_id = check_id("user_id", request.user_id)
        if not 1 <= len(request.interactions) <= MAX_RECORDED:
            raise InvalidArgument("interactions", f"must be 1 to {MAX_RECORDED:,}, not {len(request.interactions):,}")
        entries = [entry_from_proto(message, f"interactions[{at}].") for at, message in enumerate(request.interactions)]
        known = await self._decoder.items(entry.item_id for entry in entries)
        for entry in entries:
            if entry.item_id not in known:
                raise NotFound("item", entry.item_id)
        name = request_name(request)
        outcome = (await self._interactions.record({user_id: entries}, refresh_after=self._queue.after, name=name))[user_id]
        return gateway_pb2.RecordInteractionsResponse(
            recorded=outcome.recorded,
            unchanged=outcome.unchanged,
            history_size=outcome.history_size,
            refresh_pending=outcome.refresh_pending,
        )

    async def ImportInteractions(
        self, requests: AsyncIterator[gateway_pb2.ImportInteractionsRequest], context: Any
    ) -> gateway_pb2.ImportInteractionsResponse:
        report = await InteractionImport(self._interactions, self._decoder).run(requests)
        return gateway_pb2.ImportInteractionsResponse(
            recorded=report.recorded,
            unchanged=report.unchanged,
            rejections=report.rejections,
            rejected=report.rejected,
            users=len(report.users),
        )

    async def ListInteractions(
        self, request: gateway_pb2.ListInteractionsRequest, context: Any
    ) -> gateway_pb2.ListInteractionsResponse:
        page, token, total = await self._histories.page(request.user_id, request.page_size, request.page_token)
        return gateway_pb2.ListInteractionsResponse(
            interactions=[entry_to_proto(entry, item) for entry, item in page],
            next_page_token=token,
            total_size=total,
        )
