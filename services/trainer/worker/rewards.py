"""The learning core's RewardSource over the decoder service's RankTargets, and the metrics that validation asks it for."""

from __future__ import annotations

from collections.abc import Sequence

from langptune.convert import history_to_proto
from langptune.errors import Internal
from langptune.ranking import RankingQuality
from langptune.v1 import decoder_pb2
from services.trainer.learning.ports import RankQuery, Saveable
from services.trainer.patience import patiently
from services.trainer.peers import Peers
from services.trainer.settings import TrainerSettings
from services.trainer.worker.versions import JobVersions


class DecoderRewards:
    """Ranks with `version` until `use` publishes another embedder."""

    def __init__(self, peers: Peers, versions: JobVersions, settings: TrainerSettings, *, version: str) -> None:
        self._peers = peers
        self._versions = versions
        self._settings = settings
        self._parent = version
        self.version = version

    async def use(self, embedder: Saveable) -> str:
        """Publish the embedder, have the catalogue embedded with it, and rank by it from now on."""
        self.version = await self._versions.publish("decoder", embedder, self._parent)
        return self.version

    async def ranks(self, queries: Sequence[RankQuery]) -> list[tuple[int, ...]]:
        """Exact ranks over the whole catalogue."""
        return [tuple(result.ranks) for result in await self._results(queries, cutoff=0)]

    async def qualities(self, queries: Sequence[RankQuery], cutoff: int) -> list[RankingQuality]:
        """The metrics of each query at `cutoff`."""
        results = await self._results(queries, cutoff)
        return [RankingQuality(result.ndcg, result.recall, result.mrr) for result in results]

    async def _results(self, queries: Sequence[RankQuery], cutoff: int) -> list[decoder_pb2.TargetRanks]:
        results: list[decoder_pb2.TargetRanks] = []
        for start in range(0, len(queries), self._settings.rank_chunk):
            request = decoder_pb2.RankTargetsRequest(
                queries=[_query(query) for query in queries[start : start + self._settings.rank_chunk]],
                decoder_version=self.version,
                cutoff=cutoff,
            )
            results += await self._chunk(request)
        return results

    async def _chunk(self, request: decoder_pb2.RankTargetsRequest) -> list[decoder_pb2.TargetRanks]:
        answer = await patiently(
            "the decoder",
            self._settings.outage_seconds,
            lambda: self._peers.decoder.RankTargets(request, timeout=self._settings.rank_timeout),
        )
        if len(answer.results) != len(request.queries):
            raise Internal(f"the decoder answered {len(answer.results)} of {len(request.queries)} queries")
        return list(answer.results)


def _query(query: RankQuery) -> decoder_pb2.TargetQuery:
    return decoder_pb2.TargetQuery(
        text=query.profile,
        history=history_to_proto(query.history) if query.history else None,
        target_item_ids=query.target_item_ids,
        exclude_item_ids=query.excluded_item_ids,
    )
