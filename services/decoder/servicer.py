"""DecoderService over gRPC: checks and translates requests, calls the decoder, translates back; errors pass through."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Iterable

import grpc

from langptune.convert import check_id, check_range, check_text, item_from_proto, item_to_proto
from langptune.domain import Item
from langptune.errors import InvalidArgument, NotFound
from langptune.v1 import common_pb2, decoder_pb2, decoder_pb2_grpc
from services.decoder.decoder import Decoder, Query, TargetRanks

_MAX_ITEMS = 1_000  # items of a message, and of a page
_MAX_EXCLUDED = 10_000
_MAX_QUERIES = 4_096
_MAX_TARGETS = 100
_MAX_CUTOFF = (1 << 31) - 1


class DecoderServicer(decoder_pb2_grpc.DecoderServiceServicer):
    """One method per RPC; protos/langptune/v1/decoder.proto says what each promises."""

    def __init__(self, decoder: Decoder, base_version: str) -> None:
        self._decoder = decoder
        self._base_version = base_version

    async def ImportItems(  # noqa: N802  # the method's name in the proto, as with those below
        self, request_iterator: AsyncIterator[decoder_pb2.ImportItemsRequest], context: grpc.aio.ServicerContext
    ) -> decoder_pb2.ImportItemsResponse:
        report = decoder_pb2.ImportItemsResponse()
        seen = 0
        async for message in request_iterator:
            check_range("items", len(message.items), 1, _MAX_ITEMS)
            items, rejections = _sort_out(message.items, seen)
            stored = await self._decoder.store(items)
            seen += len(message.items)
            report.imported += stored
            report.unchanged += len(items) - stored
            report.rejected += len(rejections)
            report.rejections.extend(rejections[: _MAX_ITEMS - len(report.rejections)])
        await self._decoder.flush()
        report.catalogue_size = len(self._decoder.catalogue)
        return report

    async def GetItem(  # noqa: N802
        self, request: decoder_pb2.GetItemRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.GetItemResponse:
        found = await asyncio.to_thread(self._decoder.catalogue.get, [check_id("item_id", request.item_id)])
        if not found:
            raise NotFound("item", request.item_id)
        return decoder_pb2.GetItemResponse(item=item_to_proto(found[0]))

    async def BatchGetItems(  # noqa: N802
        self, request: decoder_pb2.BatchGetItemsRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.BatchGetItemsResponse:
        check_range("item_ids", len(request.item_ids), 1, _MAX_ITEMS)
        wanted = [check_id(f"item_ids[{at}]", item_id) for at, item_id in enumerate(request.item_ids)]
        found = await asyncio.to_thread(self._decoder.catalogue.get, wanted)
        known = {item.item_id for item in found}
        return decoder_pb2.BatchGetItemsResponse(
            items=map(item_to_proto, found), unknown_item_ids=[item_id for item_id in wanted if item_id not in known]
        )

    async def ListItems(  # noqa: N802
        self, request: decoder_pb2.ListItemsRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.ListItemsResponse:
        size = check_range("page_size", request.page_size, 1, _MAX_ITEMS, default=100)
        after = _from_page_token(request.page_token)
        items, last = await asyncio.to_thread(self._decoder.catalogue.page, after, size)
        return decoder_pb2.ListItemsResponse(
            items=map(item_to_proto, items), next_page_token=_to_page_token(last), total_size=len(self._decoder.catalogue)
        )

    async def Rank(  # noqa: N802
        self, request: decoder_pb2.RankRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.RankResponse:
        text = check_text("text", request.text, low=1)
        version = check_id("decoder_version", request.decoder_version)
        k = check_range("k", request.k, 1, _MAX_ITEMS)
        check_range("exclude_item_ids", len(request.exclude_item_ids), 0, _MAX_EXCLUDED)
        ranking = await self._decoder.rank(version, text, k, request.exclude_item_ids)
        ranked = [
            common_pb2.RankedItem(item=item_to_proto(hit.item), position=place, score=min(1.0, max(-1.0, hit.score)))
            for place, hit in enumerate(ranking.hits, start=1)
        ]
        return decoder_pb2.RankResponse(items=ranked, decoder_version=version, truncated=ranking.truncated)

    async def RankTargets(  # noqa: N802
        self, request: decoder_pb2.RankTargetsRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.RankTargetsResponse:
        check_range("queries", len(request.queries), 1, _MAX_QUERIES)
        version = check_id("decoder_version", request.decoder_version)
        cutoff = check_range("cutoff", request.cutoff, 0, _MAX_CUTOFF) or None
        queries = [_query(query, f"queries[{at}]") for at, query in enumerate(request.queries)]
        results, size = await self._decoder.rank_targets(version, queries, cutoff)
        return decoder_pb2.RankTargetsResponse(results=map(_result, results), decoder_version=version, catalogue_size=size)

    async def LoadDecoderVersion(  # noqa: N802
        self, request: decoder_pb2.LoadDecoderVersionRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[decoder_pb2.LoadDecoderVersionResponse]:
        version = check_id("decoder_version", request.decoder_version)
        async for progress in self._decoder.versions.load(version):
            yield decoder_pb2.LoadDecoderVersionResponse(embedded=progress.embedded, total=progress.total)
        total = len(self._decoder.catalogue)
        yield decoder_pb2.LoadDecoderVersionResponse(embedded=total, total=total, done=True)

    async def UnloadDecoderVersion(  # noqa: N802
        self, request: decoder_pb2.UnloadDecoderVersionRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.UnloadDecoderVersionResponse:
        await self._decoder.versions.unload(check_id("decoder_version", request.decoder_version))
        return decoder_pb2.UnloadDecoderVersionResponse()

    async def ListDecoderVersions(  # noqa: N802
        self, request: decoder_pb2.ListDecoderVersionsRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.ListDecoderVersionsResponse:
        versions = [
            decoder_pb2.DecoderVersion(decoder_version=found.version, items=len(found.matrix), dimensions=found.dimensions)
            for found in self._decoder.versions.resident()
        ]
        return decoder_pb2.ListDecoderVersionsResponse(decoder_versions=versions, base_decoder_version=self._base_version)


def _sort_out(messages: Iterable[common_pb2.Item], first: int) -> tuple[list[Item], list[common_pb2.Rejection]]:
    """The good items, and a rejection for each of the others; `first` is the place in the stream of the first."""
    items: list[Item] = []
    rejections: list[common_pb2.Rejection] = []
    for index, message in enumerate(messages, start=first):
        try:
            items.append(item_from_proto(message))
        except InvalidArgument as error:
            reason = error.message.removeprefix(f"{error.field}: ")
            field = error.field.removeprefix("item.")
            rejections.append(common_pb2.Rejection(index=index, id=message.item_id[:128], field=field, reason=reason))
    return items, rejections


def _query(message: decoder_pb2.TargetQuery, field: str) -> Query:
    check_range(f"{field}.target_item_ids", len(message.target_item_ids), 1, _MAX_TARGETS)
    return Query(check_text(f"{field}.text", message.text), message.target_item_ids, message.exclude_item_ids)


def _result(found: TargetRanks) -> decoder_pb2.TargetRanks:
    quality = found.quality
    return decoder_pb2.TargetRanks(
        ranks=found.ranks, ndcg=quality.ndcg, recall=quality.recall, mrr=quality.mrr, truncated=found.truncated
    )


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
