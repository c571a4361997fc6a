"""DecoderService over gRPC: checks and translates requests, calls the decoder, translates back; errors pass through.

Here are the questions; catalogue_servicer.py and version_servicer.py have the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from langptune.convert import check_id, check_number, check_range, check_text, history_from_proto, item_to_proto
from langptune.text import sentences
from langptune.v1 import common_pb2, decoder_pb2
from langptune.weights import WeightsStore
from services.decoder.catalogue_servicer import MAX_ITEMS, CatalogueServicer
from services.decoder.decoder import Decoder, Query, TargetRanks
from services.decoder.filters import FilterFields
from services.decoder.paging import next_token, read_token
from services.decoder.ranking import RankQuery
from services.decoder.version_servicer import VersionServicer

_MAX_EXCLUDED = 10_000
_MAX_AVOIDED = 20
_MAX_PHRASE = 200  # characters
_MAX_SENTENCES = 64
_MAX_EXPLAINED = 100  # items
_MAX_QUERIES = 4_096
_MAX_TARGETS = 100
_MAX_CUTOFF = (1 << 31) - 1


class DecoderServicer(CatalogueServicer, VersionServicer):
    """One method per RPC; protos/langptune/v1/decoder.proto says what each promises."""

    def __init__(self, decoder: Decoder, fields: FilterFields, store: WeightsStore, base_version: str) -> None:
        CatalogueServicer.__init__(self, decoder, fields)
        VersionServicer.__init__(self, decoder, store, base_version)

    async def Rank(  # noqa: N802  # the method's name in the proto, as with those below
        self, request: decoder_pb2.RankRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.RankResponse:
        version = check_id("decoder_version", request.decoder_version)
        query = self._rank_query(request)
        ranking = await self._decoder.rank(version, query)
        ranked = [
            common_pb2.RankedItem(item=item_to_proto(hit.item), position=place, score=min(1.0, max(-1.0, hit.score)))
            for place, hit in enumerate(ranking.hits, start=query.offset + 1)
        ]
        return decoder_pb2.RankResponse(
            items=ranked,
            decoder_version=version,
            truncated=ranking.truncated,
            coverage=ranking.coverage,
            next_page_token=next_token(request, query.offset + len(ranked)) if ranking.more else "",
        )

    async def SelectItems(  # noqa: N802
        self, request: decoder_pb2.SelectItemsRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.SelectItemsResponse:
        check_range("item_ids", len(request.item_ids), 1, MAX_ITEMS)
        version = check_id("decoder_version", request.decoder_version) if request.decoder_version else ""
        where = self._fields.filter_from_proto(request.filter)
        chosen = await self._decoder.select(request.item_ids, version, where, _phrases("avoid", request.avoid))
        return decoder_pb2.SelectItemsResponse(item_ids=chosen)

    async def CompareHistory(  # noqa: N802
        self, request: decoder_pb2.CompareHistoryRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.CompareHistoryResponse:
        version = check_id("decoder_version", request.decoder_version)
        check_range("texts", len(request.texts), 1, _MAX_SENTENCES)
        texts = [check_text(f"texts[{at}]", text, low=1) for at, text in enumerate(request.texts)]
        scores = await self._decoder.nearness(version, texts, history_from_proto(request.history))
        return decoder_pb2.CompareHistoryResponse(
            texts=[decoder_pb2.TextNearness(scores=row.tolist()) for row in scores], decoder_version=version
        )

    async def Explain(  # noqa: N802
        self, request: decoder_pb2.ExplainRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.ExplainResponse:
        version = check_id("decoder_version", request.decoder_version)
        text = check_text("text", request.text, low=1)
        check_range("text", len(sentences(text)), 1, _MAX_SENTENCES)
        check_range("item_ids", len(request.item_ids), 1, _MAX_EXPLAINED)
        found = await self._decoder.explain(version, text, request.item_ids)
        explanations = [
            decoder_pb2.Explanation(item_id=each.item_id, score=each.score, contributions=each.contributions)
            for each in found.explanations
        ]
        return decoder_pb2.ExplainResponse(
            sentences=found.sentences, explanations=explanations, decoder_version=version, truncated=found.truncated
        )

    async def RankTargets(  # noqa: N802
        self, request: decoder_pb2.RankTargetsRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.RankTargetsResponse:
        check_range("queries", len(request.queries), 1, _MAX_QUERIES)
        version = check_id("decoder_version", request.decoder_version)
        cutoff = check_range("cutoff", request.cutoff, 0, _MAX_CUTOFF) or None
        where = self._fields.filter_from_proto(request.filter)
        queries = [_query(query, f"queries[{at}]") for at, query in enumerate(request.queries)]
        results, size = await self._decoder.rank_targets(version, queries, cutoff, where)
        return decoder_pb2.RankTargetsResponse(results=map(_result, results), decoder_version=version, catalogue_size=size)

    def _rank_query(self, request: decoder_pb2.RankRequest) -> RankQuery:
        """Raises InvalidArgument for what the comments in decoder.proto rule out."""
        has_history = bool(request.history.interactions)
        check_range("exclude_item_ids", len(request.exclude_item_ids), 0, _MAX_EXCLUDED)
        return RankQuery(
            text=check_text("text", request.text, low=0 if has_history else 1),
            k=check_range("k", request.k, 1, MAX_ITEMS),
            exclude=request.exclude_item_ids,
            where=self._fields.filter_from_proto(request.filter),
            history=history_from_proto(request.history) if has_history else (),
            avoid=_phrases("avoid", request.avoid),
            diversity=check_number("diversity", request.diversity, 0.0, 1.0),
            offset=read_token(request),
        )


def _phrases(field: str, phrases: Sequence[str]) -> list[str]:
    check_range(field, len(phrases), 0, _MAX_AVOIDED)
    return [check_text(f"{field}[{at}]", phrase.strip(), low=1, high=_MAX_PHRASE) for at, phrase in enumerate(phrases)]


def _query(message: decoder_pb2.TargetQuery, field: str) -> Query:
    check_range(f"{field}.target_item_ids", len(message.target_item_ids), 1, _MAX_TARGETS)
    history = history_from_proto(message.history, f"{field}.history") if message.history.interactions else ()
    text = check_text(f"{field}.text", message.text)
    avoid = _phrases(f"{field}.avoid", message.avoid)
    return Query(text, message.target_item_ids, message.exclude_item_ids, history, avoid)


def _result(found: TargetRanks) -> decoder_pb2.TargetRanks:
    quality = found.quality
    return decoder_pb2.TargetRanks(
        ranks=found.ranks,
        ndcg=quality.ndcg,
        recall=quality.recall,
        mrr=quality.mrr,
        truncated=found.coverage < 1.0,
        coverage=found.coverage,
    )
