"""DecoderService over gRPC: checks and translates requests, calls the decoder, translates back; errors pass through.

Here are the questions; catalogue_servicer.py and version_servicer.py have the rest.
"""

from __future__ import annotations

import grpc

from langptune.convert import check_id, check_range, check_text, item_to_proto
from langptune.v1 import common_pb2, decoder_pb2
from services.decoder.catalogue_servicer import MAX_ITEMS, CatalogueServicer
from services.decoder.decoder import Decoder, Query, TargetRanks
from services.decoder.filters import FilterFields
from services.decoder.version_servicer import VersionServicer

_MAX_EXCLUDED = 10_000
_MAX_QUERIES = 4_096
_MAX_TARGETS = 100
_MAX_CUTOFF = (1 << 31) - 1


class DecoderServicer(CatalogueServicer, VersionServicer):
    """One method per RPC; protos/langptune/v1/decoder.proto says what each promises."""

    def __init__(self, decoder: Decoder, fields: FilterFields, base_version: str) -> None:
        CatalogueServicer.__init__(self, decoder, fields)
        VersionServicer.__init__(self, decoder, base_version)

    async def Rank(  # noqa: N802  # the method's name in the proto, as with those below
        self, request: decoder_pb2.RankRequest, context: grpc.aio.ServicerContext
    ) -> decoder_pb2.RankResponse:
        text = check_text("text", request.text, low=1)
        version = check_id("decoder_version", request.decoder_version)
        k = check_range("k", request.k, 1, MAX_ITEMS)
        check_range("exclude_item_ids", len(request.exclude_item_ids), 0, _MAX_EXCLUDED)
        where = self._fields.filter_from_proto(request.filter)
        ranking = await self._decoder.rank(version, text, k, request.exclude_item_ids, where)
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
        where = self._fields.filter_from_proto(request.filter)
        queries = [_query(query, f"queries[{at}]") for at, query in enumerate(request.queries)]
        results, size = await self._decoder.rank_targets(version, queries, cutoff, where)
        return decoder_pb2.RankTargetsResponse(results=map(_result, results), decoder_version=version, catalogue_size=size)


def _query(message: decoder_pb2.TargetQuery, field: str) -> Query:
    check_range(f"{field}.target_item_ids", len(message.target_item_ids), 1, _MAX_TARGETS)
    return Query(check_text(f"{field}.text", message.text), message.target_item_ids, message.exclude_item_ids)


def _result(found: TargetRanks) -> decoder_pb2.TargetRanks:
    quality = found.quality
    return decoder_pb2.TargetRanks(
        ranks=found.ranks, ndcg=quality.ndcg, recall=quality.recall, mrr=quality.mrr, truncated=found.truncated
    )
