"""The decoder as the gateway sees it: the only place that knows its stub.

Raises `langptune.errors` as they are: NotFound for a version that is not there, Unavailable while the service is down.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from langptune.convert import history_to_proto, item_from_catalogue
from langptune.domain import Interaction, Item
from langptune.rpc import Channel
from langptune.v1 import common_pb2, decoder_pb2, decoder_pb2_grpc, gateway_pb2

_CHECK_TIMEOUT = 3.0  # seconds that an edit waits for a check that it can do without
_BATCH = 200  # ids in one BatchGetItems: with whole descriptions well below the limit of a message


@dataclass(frozen=True, slots=True)
class Rules:
    """What may come out of a ranking, and what lowers an item in it."""

    exclude: Collection[str] = ()  # ids of items that are not ranked, at most 10,000
    avoid: Sequence[str] = ()  # phrases that the user never wants, at most 20
    where: common_pb2.ItemFilter | None = None  # None passes every item


class Decoder:
    """Ranks, and keeps the catalogue."""

    def __init__(self, channel: Channel, import_timeout: float) -> None:
        stub_channel: Any = channel  # stubs ask for grpc's own channel type and use only the methods that ours has
        self._stub = decoder_pb2_grpc.DecoderServiceStub(stub_channel)
        self._import_timeout = import_timeout

    async def rank(
        self, text: str, version: str, k: int, rules: Rules, history: Sequence[Interaction] = ()
    ) -> list[common_pb2.RankedItem]:
        """The best `k` items for `text`, or for `history` in its place."""
        request = decoder_pb2.RankRequest(
            text=text,
            history=_history(history),
            decoder_version=version,
            k=k,
            exclude_item_ids=rules.exclude,
            filter=rules.where,
            avoid=rules.avoid,
        )
        return list((await self._stub.Rank(request)).items)

    async def coverage(self, text: str, version: str) -> float:
        """Share of `text` that the embedder reads, above 0.0 to 1.0; a ranking by it that follows finds its vector embedded."""
        request = decoder_pb2.RankRequest(text=text, decoder_version=version, k=1)
        return float((await self._stub.Rank(request, timeout=_CHECK_TIMEOUT)).coverage)

    async def reasons(self, text: str, version: str, item_ids: Sequence[str]) -> list[gateway_pb2.Reason]:
        """The sentence of `text` that speaks most for each of `item_ids` (at most 100)."""
        if not item_ids:
            return []
        request = decoder_pb2.ExplainRequest(text=text, decoder_version=version, item_ids=item_ids)
        response = await self._stub.Explain(request)
        return [_strongest(response.sentences, each.contributions) for each in response.explanations]

    async def places(
        self, text: str, version: str, item_ids: Sequence[str], rules: Rules, history: Sequence[Interaction] = ()
    ) -> dict[str, int]:
        """The exact rank, from 1, of each of `item_ids` (at most 100) in what `rank` ranks by the same."""
        if not item_ids:
            return {}
        query = decoder_pb2.TargetQuery(
            text=text,
            history=_history(history),
            target_item_ids=item_ids,
            exclude_item_ids=rules.exclude,
            avoid=rules.avoid,
        )
        request = decoder_pb2.RankTargetsRequest(queries=[query], decoder_version=version, filter=rules.where)
        response = await self._stub.RankTargets(request)
        return dict(zip(item_ids, response.results[0].ranks, strict=True))

    async def select(self, item_ids: Sequence[str], version: str, rules: Rules) -> list[str]:
        """Those of `item_ids` (at most 1,000) that may come out; without `version` a phrase tells of categories only."""
        excluded = set(rules.exclude)
        wanted = [item_id for item_id in item_ids if item_id not in excluded]
        if not wanted or not (rules.avoid or rules.where):
            return wanted
        request = decoder_pb2.SelectItemsRequest(item_ids=wanted, decoder_version=version, filter=rules.where, avoid=rules.avoid)
        return list((await self._stub.SelectItems(request)).item_ids)

    async def nearness(self, texts: Sequence[str], history: Sequence[Interaction], version: str) -> list[list[float]]:
        """How near each of `texts` (at most 64) is to each interaction, in standard deviations above the catalogue's items."""
        request = decoder_pb2.CompareHistoryRequest(texts=texts, history=history_to_proto(history), decoder_version=version)
        response = await self._stub.CompareHistory(request)
        return [list(text.scores) for text in response.texts]

    async def items(self, item_ids: Iterable[str]) -> dict[str, Item]:
        """The items by id; unknown ids are left out."""
        wanted = list(dict.fromkeys(item_ids))
        found: dict[str, Item] = {}
        for start in range(0, len(wanted), _BATCH):
            request = decoder_pb2.BatchGetItemsRequest(item_ids=wanted[start : start + _BATCH])
            response = await self._stub.BatchGetItems(request)
            found.update((item.item_id, item_from_catalogue(item)) for item in response.items)
        return found

    async def get(self, item_id: str) -> common_pb2.Item:
        """Raises NotFound."""
        response: decoder_pb2.GetItemResponse = await self._stub.GetItem(decoder_pb2.GetItemRequest(item_id=item_id))
        return response.item

    async def page(self, size: int, token: str) -> decoder_pb2.ListItemsResponse:
        """A page of the catalogue, in its stable order."""
        request = decoder_pb2.ListItemsRequest(page_size=size, page_token=token)
        response: decoder_pb2.ListItemsResponse = await self._stub.ListItems(request)
        return response

    async def import_items(self, batches: AsyncIterator[Sequence[common_pb2.Item]]) -> decoder_pb2.ImportItemsResponse:
        """Add or replace items, batch by batch."""
        requests: Any = (decoder_pb2.ImportItemsRequest(items=batch) async for batch in batches)
        response: decoder_pb2.ImportItemsResponse = await self._stub.ImportItems(requests, timeout=self._import_timeout)
        return response


def _strongest(sentences: Sequence[str], contributions: Sequence[float]) -> gateway_pb2.Reason:
    contribution, sentence = max(zip(contributions, sentences, strict=True))
    return gateway_pb2.Reason(sentence=sentence, contribution=contribution) if contribution > 0 else gateway_pb2.Reason()


def _history(history: Sequence[Interaction]) -> common_pb2.History | None:
    """None leaves a message's field absent."""
    return history_to_proto(history) if history else None
