"""CatalogService: the decoder's catalogue under public names."""

# ruff: noqa: N802  # gRPC names the methods

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from langptune.convert import check_id
from langptune.v1 import common_pb2, gateway_pb2, gateway_pb2_grpc
from services.gateway.peers.decoder import Decoder


class CatalogServicer(gateway_pb2_grpc.CatalogServiceServicer):
    """CatalogService."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    async def ImportCatalogItems(
        self, requests: AsyncIterator[gateway_pb2.ImportCatalogItemsRequest], context: Any
    ) -> gateway_pb2.ImportCatalogItemsResponse:
        report = await self._decoder.import_items(_batches(requests))
        return gateway_pb2.ImportCatalogItemsResponse(
            imported=report.imported,
            unchanged=report.unchanged,
            rejections=report.rejections,
            rejected=report.rejected,
            catalogue_size=report.catalogue_size,
        )

    async def GetCatalogItem(
        self, request: gateway_pb2.GetCatalogItemRequest, context: Any
    ) -> gateway_pb2.GetCatalogItemResponse:
        item_id = check_id("item_id", request.item_id)
        return gateway_pb2.GetCatalogItemResponse(item=await self._decoder.get(item_id))

    async def ListCatalogItems(
        self, request: gateway_pb2.ListCatalogItemsRequest, context: Any
    ) -> gateway_pb2.ListCatalogItemsResponse:
        page = await self._decoder.page(request.page_size, request.page_token)
        return gateway_pb2.ListCatalogItemsResponse(
            items=page.items, next_page_token=page.next_page_token, total_size=page.total_size
        )


async def _batches(
    requests: AsyncIterator[gateway_pb2.ImportCatalogItemsRequest],
) -> AsyncIterator[Sequence[common_pb2.Item]]:
    async for request in requests:
        yield request.items
