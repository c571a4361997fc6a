"""The catalogue: imported, read, listed."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable

from langptune.client.chunks import Progress, item_requests
from langptune.client.connection import IMPORT_TIMEOUT, Connection
from langptune.client.paging import pages
from langptune.client.values.imports import ImportedItems, imported_items_from_proto
from langptune.convert import item_from_catalogue
from langptune.domain import Item
from langptune.v1 import gateway_pb2, gateway_pb2_grpc


class CatalogCalls(Connection):
    """CatalogService."""

    @property
    def _catalog(self) -> gateway_pb2_grpc.CatalogServiceStub:
        return self._stub(gateway_pb2_grpc.CatalogServiceStub)

    async def import_items(
        self,
        source: Iterable[Item] | AsyncIterable[Item],
        *,
        progress: Progress | None = None,
        timeout: float | None = IMPORT_TIMEOUT,
    ) -> ImportedItems:
        """Add or replace items; a bad one is rejected and reported. `progress` is called with the number of items sent so far."""
        response = await self._catalog.ImportCatalogItems(item_requests(source, progress), timeout=timeout)
        return imported_items_from_proto(response)

    async def get_item(self, item_id: str, *, timeout: float | None = None) -> Item:
        """Raises NotFound."""
        request = gateway_pb2.GetCatalogItemRequest(item_id=item_id)
        return item_from_catalogue((await self._catalog.GetCatalogItem(request, timeout=timeout)).item)

    async def list_items(self, *, page_size: int = 100) -> AsyncIterator[Item]:
        """The catalogue, in a stable order."""
        request = gateway_pb2.ListCatalogItemsRequest(page_size=page_size)
        async for response in pages(self._catalog.ListCatalogItems, request):
            for entry in response.items:
                yield item_from_catalogue(entry)
