"""Imports in chunks: any source of items or interactions as a stream of requests, bounded in elements and in bytes."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import TypeVar

from langptune.client.values.interactions import NewInteraction, new_interaction_to_proto
from langptune.convert import item_to_proto
from langptune.domain import Interaction, Item
from langptune.v1 import gateway_pb2

Progress = Callable[[int], None]
ElementT = TypeVar("ElementT")

_ELEMENTS = 500  # a message
_BYTES = 2 << 20  # a message, about


async def item_requests(
    source: Iterable[Item] | AsyncIterable[Item], progress: Progress | None
) -> AsyncIterator[gateway_pb2.ImportCatalogItemsRequest]:
    """All items, several to a request; `progress` hears of a request once the next one is asked for."""
    sent, size = 0, 0
    request = gateway_pb2.ImportCatalogItemsRequest()
    async for item in _each(source):
        request.items.append(item_to_proto(item))
        size += request.items[-1].ByteSize()
        if len(request.items) == _ELEMENTS or size >= _BYTES:
            sent += len(request.items)
            yield request
            _report(progress, sent)
            request, size = gateway_pb2.ImportCatalogItemsRequest(), 0
    if request.items:
        sent += len(request.items)
        yield request
    _report(progress, sent)


async def interaction_requests(
    source: Iterable[tuple[str, Interaction | NewInteraction]] | AsyncIterable[tuple[str, Interaction | NewInteraction]],
    progress: Progress | None,
) -> AsyncIterator[gateway_pb2.ImportInteractionsRequest]:
    """All pairs in their order, neighbours of the same user in one request."""
    sent, size = 0, 0
    request = gateway_pb2.ImportInteractionsRequest()
    async for user_id, interaction in _each(source):
        full = len(request.interactions) == _ELEMENTS or size >= _BYTES
        if request.interactions and (user_id != request.user_id or full):
            sent += len(request.interactions)
            yield request
            _report(progress, sent)
            request, size = gateway_pb2.ImportInteractionsRequest(), 0
        request.user_id = user_id
        request.interactions.append(new_interaction_to_proto(interaction))
        size += request.interactions[-1].ByteSize()
    if request.interactions:
        sent += len(request.interactions)
        yield request
    _report(progress, sent)


async def _each(source: Iterable[ElementT] | AsyncIterable[ElementT]) -> AsyncIterator[ElementT]:
    if isinstance(source, AsyncIterable):
        async for element in source:
            yield element
    else:
        for element in source:
            yield element


def _report(progress: Progress | None, sent: int) -> None:
    if progress is not None:
        progress(sent)
