"""The catalogue's part of DecoderService: items in, items out."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Iterable

import grpc

from langptune.convert import check_id, check_range, item_from_proto, item_to_proto
from langptune.domain import Item
from langptune.errors import InvalidArgument, NotFound
from langptune.v1 import common_pb2, decoder_pb2, decoder_pb2_grpc
from services.decoder.decoder import Decoder
from services.decoder.filters import FilterFields

MAX_ITEMS = 1_000  # items of a message, and of a page


class CatalogueServicer(decoder_pb2_grpc.DecoderServiceServicer):
    """One method per RPC; protos/langptune/v1/decoder.proto says what each promises."""

    def __init__(self, decoder: Decoder, fields: FilterFields) -> None:
        self._decoder = decoder
        self._fields = fields

    async def ImportItems(  # noqa: N802  # the method's name in the proto, as with those below
        self, request_iterator: AsyncIterator[decoder_pb2.ImportItemsRequest], context: grpc.aio.ServicerContext
    ) -> decoder_pb2.ImportItemsResponse:
        report = decoder_pb2.ImportItemsResponse()
        seen = 0
        async for message in request_iterator:
            check_range("items", len(message.items), 1, MAX_ITEMS)
            items, rejections = self._sort_out(message.items, seen)
            stored = await self._decoder.items.store(items)
            seen += len(message.items)
            report.imported += stored
            report.unchanged += len(items) - stored
            report.rejected += len(rejections)
            report.rejections.extend(rejections[: MAX_ITEMS - len(report.rejections)])
        await self._decoder.items.flush()
        report.catalogue_size = len(self._decoder.catalogue)
        return report

    async def GetItem(  # noqa: N802
        self, request: decoder_pb2.GetItemRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.GetItemResponse:
        found = await self._decoder.catalogue.get([check_id("item_id", request.item_id)])
        if not found:
            raise NotFound("item", request.item_id)
        return decoder_pb2.GetItemResponse(item=item_to_proto(found[0]))

    async def BatchGetItems(  # noqa: N802
        self, request: decoder_pb2.BatchGetItemsRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.BatchGetItemsResponse:
        check_range("item_ids", len(request.item_ids), 1, MAX_ITEMS)
        wanted = [check_id(f"item_ids[{at}]", item_id) for at, item_id in enumerate(request.item_ids)]
        found = await self._decoder.catalogue.get(wanted)
        known = {item.item_id for item in found}
        return decoder_pb2.BatchGetItemsResponse(
            items=map(item_to_proto, found), unknown_item_ids=[item_id for item_id in wanted if item_id not in known]
        )

    async def ListItems(  # noqa: N802
        self, request: decoder_pb2.ListItemsRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.ListItemsResponse:
        size = check_range("page_size", request.page_size, 1, MAX_ITEMS, default=100)
        items, more = await self._decoder.catalogue.page(_from_page_token(request.page_token), size)
        return decoder_pb2.ListItemsResponse(
            items=map(item_to_proto, items),
            next_page_token=_to_page_token(items[-1].item_id) if more else "",
            total_size=len(self._decoder.catalogue),
        )

    def _sort_out(self, messages: Iterable[common_pb2.Item], first: int) -> tuple[list[Item], list[common_pb2.Rejection]]:
        """The good items, and a rejection for each of the others; `first` is the place in the stream of the first."""
        items: list[Item] = []
        rejections: list[common_pb2.Rejection] = []
        for index, message in enumerate(messages, start=first):
            try:
                items.append(self._fields.check_item(item_from_proto(message)))
            except InvalidArgument as error:
                reason = error.message.removeprefix(f"{error.field}: ")
                field = error.field.removeprefix("item.")
                rejections.append(common_pb2.Rejection(index=index, id=message.item_id[:128], field=field, reason=reason))
        return items, rejections


def _to_page_token(last: str) -> str:
    """A token for the page after the item `last`; "" for no page."""
    return base64.urlsafe_b64encode(f"after {last}".encode()).decode() if last else ""


def _from_page_token(token: str) -> str:
    """The inverse; "" for the first page. Raises InvalidArgument for a token that no page had."""
    if not token:
        return ""
    try:
        word, _, last = base64.b64decode(token, altchars=b"-_", validate=True).decode().partition(" ")
        if word == "after":
            return check_id("page_token", last)
    except (binascii.Error, ValueError, InvalidArgument):
        pass
    raise InvalidArgument("page_token", "is not a token that ListItems gave out")
