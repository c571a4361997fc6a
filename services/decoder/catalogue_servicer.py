"""The catalogue's part of DecoderService: items in, items out."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

import grpc
from google.protobuf import field_mask_pb2
from google.protobuf.message import Message

from langptune.convert import check_id, check_range, item_from_proto, item_to_proto
from langptune.domain import Item
from langptune.errors import InvalidArgument, NotFound
from langptune.v1 import common_pb2, decoder_pb2, decoder_pb2_grpc
from services.decoder.catalogue import Catalogue
from services.decoder.decoder import Decoder
from services.decoder.filters import FilterFields

MessageT = TypeVar("MessageT", bound=Message)

MAX_ITEMS = 1_000  # items of a message, and of a page
_MAX_LIST_BYTES = 8 << 20  # of the list in an answer; a message has at most 16 MiB
_FRAME = 6  # bytes, at most, that a message costs in a list beside itself
_READ_BATCH = 100  # items
_FIELDS = frozenset(field.name for field in common_pb2.Item.DESCRIPTOR.fields)
_UPDATABLE = _FIELDS - {"item_id"}


class CatalogueServicer(decoder_pb2_grpc.DecoderServiceServicer):
    """One method per RPC; protos/langptune/v1/decoder.proto says what each promises."""

    def __init__(self, decoder: Decoder, fields: FilterFields) -> None:
        self._decoder = decoder
        self._fields = fields

    async def ImportItems(  # noqa: N802  # the method's name in the proto, as with those below
        self, request_iterator: AsyncIterator[decoder_pb2.ImportItemsRequest], context: grpc.aio.ServicerContext
    ) -> decoder_pb2.ImportItemsResponse:
        report = decoder_pb2.ImportItemsResponse()
        room = Room(_MAX_LIST_BYTES)
        seen = 0
        async for message in request_iterator:
            check_range("items", len(message.items), 1, MAX_ITEMS)
            items, rejections = self._sort_out(message.items, seen)
            stored = await self._decoder.items.store(items)
            seen += len(message.items)
            report.imported += stored
            report.unchanged += len(items) - stored
            report.rejected += len(rejections)
            report.rejections.extend(room.take(rejections))
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

    async def UpdateItem(  # noqa: N802
        self, request: decoder_pb2.UpdateItemRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.UpdateItemResponse:
        item_id = check_id("item.item_id", request.item.item_id)

        def changed(now: Item) -> Item:
            return self._fields.check_item(_merged(item_to_proto(now), request.item, request.update_mask))

        return decoder_pb2.UpdateItemResponse(item=item_to_proto(await self._decoder.items.update(item_id, changed)))

    async def DeleteItems(  # noqa: N802
        self, request: decoder_pb2.DeleteItemsRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.DeleteItemsResponse:
        check_range("item_ids", len(request.item_ids), 1, MAX_ITEMS)
        wanted = dict.fromkeys(check_id(f"item_ids[{at}]", item_id) for at, item_id in enumerate(request.item_ids))
        deleted = await self._decoder.items.delete(list(wanted))
        await self._decoder.items.flush()
        unknown = [item_id for item_id in wanted if item_id not in deleted]
        return decoder_pb2.DeleteItemsResponse(deleted=len(deleted), unknown_item_ids=unknown)

    async def ListItems(  # noqa: N802
        self, request: decoder_pb2.ListItemsRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.ListItemsResponse:
        size = check_range("page_size", request.page_size, 1, MAX_ITEMS, default=100)
        after = _from_page_token(request.page_token)
        messages, more = await _page(self._decoder.catalogue, after, size)
        return decoder_pb2.ListItemsResponse(
            items=messages,
            next_page_token=_to_page_token(messages[-1].item_id) if more else "",
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


class Room:
    """How many bytes of messages an answer still takes."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, messages: Iterable[MessageT]) -> list[MessageT]:
        """The first of `messages`, for as long as there is room; there is none after one that did not fit."""
        taken: list[MessageT] = []
        for message in messages:
            self._left -= message.ByteSize() + _FRAME
            if self._left < 0:
                break
            taken.append(message)
        return taken


async def _page(catalogue: Catalogue, after: str, size: int) -> tuple[list[common_pb2.Item], bool]:
    """Up to `size` items past the id `after`, as many as the room holds but at least one; and whether there are more."""
    room = Room(_MAX_LIST_BYTES)
    page: list[common_pb2.Item] = []
    more = True
    while more and len(page) < size:
        items, more = await catalogue.page(after, min(_READ_BATCH, size - len(page)))
        taken = room.take(map(item_to_proto, items))
        page += taken
        if len(taken) < len(items):
            return page, True
        after = page[-1].item_id if page else ""
    return page, more


def _merged(now: common_pb2.Item, asked: common_pb2.Item, mask: field_mask_pb2.FieldMask) -> Item:
    """`now` with the fields of the mask as `asked` has them. Raises InvalidArgument for a path that is no field of an item."""
    paths = frozenset(mask.paths) or _UPDATABLE
    for path in sorted(paths - _UPDATABLE):
        raise InvalidArgument("update_mask", f"{path!r} cannot be updated; these can: {', '.join(sorted(_UPDATABLE))}")
    return item_from_proto(_joined(_without(now, paths), _without(asked, _FIELDS - paths)))


def _joined(one: common_pb2.Item, other: common_pb2.Item) -> common_pb2.Item:
    one.MergeFrom(other)
    return one


def _without(item: common_pb2.Item, names: Iterable[str]) -> common_pb2.Item:
    copy = common_pb2.Item()
    copy.CopyFrom(item)
    for name in names:
        copy.ClearField(name)  # type: ignore[arg-type]  # the stub takes literal names only
    return copy


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
