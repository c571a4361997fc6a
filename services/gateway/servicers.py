"""The gateway's own RPCs: translate in, call the core, translate out."""

# ruff: noqa: N802  # gRPC names the methods

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from langptune.convert import check_id, check_time
from langptune.errors import InvalidArgument, NotFound
from langptune.v1 import common_pb2, gateway_pb2, gateway_pb2_grpc
from services.gateway import metrics
from services.gateway.avoid import AvoidPhrases
from services.gateway.backends import Decoder
from services.gateway.convert import (
    entry_from_proto,
    entry_to_proto,
    evidence_to_proto,
    mark_from_proto,
    marks_to_proto,
    pins_to_proto,
    profile_to_proto,
    request_name,
    suggestion_to_proto,
)
from services.gateway.diffs import diff
from services.gateway.evidence import EvidenceFinder
from services.gateway.histories import Histories
from services.gateway.imports import InteractionImport
from services.gateway.interactions import MAX_RECORDED, Interactions
from services.gateway.lengths import LengthCheck
from services.gateway.live import LiveRelease
from services.gateway.previews import Previewer
from services.gateway.profiles import Pins, Profiles
from services.gateway.recommendations import Recommender
from services.gateway.refresh import ProfileWriter
from services.gateway.refresh_queue import RefreshQueue


class RecommendationServicer(gateway_pb2_grpc.RecommendationServiceServicer):
    """RecommendationService."""

    def __init__(self, recommender: Recommender, previewer: Previewer) -> None:
        self._recommender = recommender
        self._previewer = previewer

    async def Recommend(self, request: gateway_pb2.RecommendRequest, context: Any) -> gateway_pb2.RecommendResponse:
        where = request.filter if request.HasField("filter") else None
        found = await self._recommender.recommend(
            request.user_id, request.k, explain=request.explain, avoid=request.avoid, where=where
        )
        metrics.RECOMMENDATIONS[found.basis].inc()
        return gateway_pb2.RecommendResponse(
            items=found.items,
            basis=gateway_pb2.RankingBasis.Value(f"RANKING_BASIS_{found.basis.name}"),
            basis_reason=found.reason,
            versions=pins_to_proto(found.pins),
            profile_revision=found.profile_revision,
            reasons=found.reasons,
        )

    async def Preview(self, request: gateway_pb2.PreviewRequest, context: Any) -> gateway_pb2.PreviewResponse:
        found = await self._previewer.preview(request.user_id, request.text, request.k)
        return gateway_pb2.PreviewResponse(
            items=found.items,
            leaving=found.leaving,
            basis=gateway_pb2.RankingBasis.Value(f"RANKING_BASIS_{found.query.basis.name}"),
            versions=pins_to_proto(found.query.pins),
            profile_revision=found.query.profile_revision,
        )


class ProfileServicer(gateway_pb2_grpc.ProfileServiceServicer):
    """ProfileService."""

    def __init__(
        self,
        profiles: Profiles,
        writer: ProfileWriter,
        live: LiveRelease,
        avoid: AvoidPhrases,
        evidence: EvidenceFinder,
        queue: RefreshQueue,
        lengths: LengthCheck,
    ) -> None:
        self._queue = queue
        self._lengths = lengths
        self._profiles = profiles
        self._writer = writer
        self._live = live
        self._avoid = avoid
        self._evidence = evidence

    async def GetProfile(self, request: gateway_pb2.GetProfileRequest, context: Any) -> gateway_pb2.GetProfileResponse:
        fresh, pending = await self._queue.state(request.user_id)
        return gateway_pb2.GetProfileResponse(
            profile=profile_to_proto(await self._profiles.get(request.user_id)),
            suggestion=suggestion_to_proto(await self._profiles.suggestion(request.user_id)),
            marks=marks_to_proto(await self._profiles.marks(request.user_id)),
            avoid=await self._avoid.find(request.user_id),
            new_interactions=fresh,
            refresh_pending=pending,
        )

    async def ExplainProfile(
        self, request: gateway_pb2.ExplainProfileRequest, context: Any
    ) -> gateway_pb2.ExplainProfileResponse:
        found = await self._evidence.explain(request.user_id, request.revision)
        return evidence_to_proto(found, self._evidence.threshold)

    async def AddAvoidPhrase(
        self, request: gateway_pb2.AddAvoidPhraseRequest, context: Any
    ) -> gateway_pb2.AddAvoidPhraseResponse:
        return gateway_pb2.AddAvoidPhraseResponse(phrases=await self._avoid.add(request.user_id, request.phrase))

    async def RemoveAvoidPhrase(
        self, request: gateway_pb2.RemoveAvoidPhraseRequest, context: Any
    ) -> gateway_pb2.RemoveAvoidPhraseResponse:
        return gateway_pb2.RemoveAvoidPhraseResponse(phrases=await self._avoid.remove(request.user_id, request.phrase))

    async def ListAvoidPhrases(
        self, request: gateway_pb2.ListAvoidPhrasesRequest, context: Any
    ) -> gateway_pb2.ListAvoidPhrasesResponse:
        return gateway_pb2.ListAvoidPhrasesResponse(phrases=await self._avoid.find(request.user_id))

    async def UpdateProfile(self, request: gateway_pb2.UpdateProfileRequest, context: Any) -> gateway_pb2.UpdateProfileResponse:
        await self._lengths.check(request.text)
        live = await self._live.find() or Pins()
        edited = await self._profiles.edit(request.user_id, request.text, request.etag, live)
        return gateway_pb2.UpdateProfileResponse(profile=profile_to_proto(edited))

    async def RefreshProfile(
        self, request: gateway_pb2.RefreshProfileRequest, context: Any
    ) -> gateway_pb2.RefreshProfileResponse:
        seed = request.seed if request.HasField("seed") else None
        as_of_ms = check_time("as_of", request.as_of) if request.HasField("as_of") else None
        profile, suggestion = await self._writer.refresh(
            request.user_id, overwrite_edited=request.overwrite_edited, seed=seed, as_of_ms=as_of_ms
        )
        return gateway_pb2.RefreshProfileResponse(profile=profile_to_proto(profile), suggestion=suggestion_to_proto(suggestion))

    async def AcceptProfileSuggestion(
        self, request: gateway_pb2.AcceptProfileSuggestionRequest, context: Any
    ) -> gateway_pb2.AcceptProfileSuggestionResponse:
        if request.merged_text:
            await self._lengths.check(request.merged_text)
        accepted = await self._profiles.accept(request.user_id, request.etag, request.merged_text)
        return gateway_pb2.AcceptProfileSuggestionResponse(profile=profile_to_proto(accepted))

    async def DismissProfileSuggestion(
        self, request: gateway_pb2.DismissProfileSuggestionRequest, context: Any
    ) -> gateway_pb2.DismissProfileSuggestionResponse:
        await self._profiles.dismiss(request.user_id)
        return gateway_pb2.DismissProfileSuggestionResponse()

    async def MarkProfileSentence(
        self, request: gateway_pb2.MarkProfileSentenceRequest, context: Any
    ) -> gateway_pb2.MarkProfileSentenceResponse:
        live = await self._live.find() or Pins()
        mark = mark_from_proto(request.mark)
        marked = await self._profiles.mark(request.user_id, request.sentence, mark, request.etag, live)
        marks = marks_to_proto(await self._profiles.marks(request.user_id))
        return gateway_pb2.MarkProfileSentenceResponse(profile=profile_to_proto(marked), marks=marks)

    async def ListProfileRevisions(
        self, request: gateway_pb2.ListProfileRevisionsRequest, context: Any
    ) -> gateway_pb2.ListProfileRevisionsResponse:
        page, token = await self._profiles.revisions(request.user_id, request.page_size, request.page_token)
        revisions = [profile_to_proto(revision) for revision in page]
        return gateway_pb2.ListProfileRevisionsResponse(revisions=revisions, next_page_token=token)

    async def DiffProfileRevisions(
        self, request: gateway_pb2.DiffProfileRevisionsRequest, context: Any
    ) -> gateway_pb2.DiffProfileRevisionsResponse:
        before = await self._profiles.at(request.user_id, request.from_revision, "from_revision")
        after = await self._profiles.at(request.user_id, request.to_revision, "to_revision")
        parts = [
            gateway_pb2.DiffPart(kind=gateway_pb2.DiffKind.Value(f"DIFF_KIND_{part.kind.name}"), text=part.text)
            for part in diff(before.text, after.text)
        ]
        return gateway_pb2.DiffProfileRevisionsResponse(parts=parts)

    async def RestoreProfileRevision(
        self, request: gateway_pb2.RestoreProfileRevisionRequest, context: Any
    ) -> gateway_pb2.RestoreProfileRevisionResponse:
        restored = await self._profiles.restore(request.user_id, request.revision, request.etag)
        return gateway_pb2.RestoreProfileRevisionResponse(profile=profile_to_proto(restored))


class InteractionServicer(gateway_pb2_grpc.InteractionServiceServicer):
    """InteractionService."""

    def __init__(self, interactions: Interactions, histories: Histories, decoder: Decoder, queue: RefreshQueue) -> None:
        self._queue = queue
        self._interactions = interactions
        self._histories = histories
        self._decoder = decoder

    async def RecordInteractions(
        self, request: gateway_pb2.RecordInteractionsRequest, context: Any
    ) -> gateway_pb2.RecordInteractionsResponse:
        user_id = check_id("user_id", request.user_id)
        if not 1 <= len(request.interactions) <= MAX_RECORDED:
            raise InvalidArgument("interactions", f"must be 1 to {MAX_RECORDED:,}, not {len(request.interactions):,}")
        entries = [entry_from_proto(message, f"interactions[{at}].") for at, message in enumerate(request.interactions)]
        known = await self._decoder.items(entry.item_id for entry in entries)
        for entry in entries:
            if entry.item_id not in known:
                raise NotFound("item", entry.item_id)
        name = request_name(request)
        outcome = (await self._interactions.record({user_id: entries}, refresh_after=self._queue.after, name=name))[user_id]
        return gateway_pb2.RecordInteractionsResponse(
            recorded=outcome.recorded,
            unchanged=outcome.unchanged,
            history_size=outcome.history_size,
            refresh_pending=outcome.refresh_pending,
        )

    async def ImportInteractions(
        self, requests: AsyncIterator[gateway_pb2.ImportInteractionsRequest], context: Any
    ) -> gateway_pb2.ImportInteractionsResponse:
        report = await InteractionImport(self._interactions, self._decoder).run(requests)
        return gateway_pb2.ImportInteractionsResponse(
            recorded=report.recorded,
            unchanged=report.unchanged,
            rejections=report.rejections,
            rejected=report.rejected,
            users=len(report.users),
        )

    async def ListInteractions(
        self, request: gateway_pb2.ListInteractionsRequest, context: Any
    ) -> gateway_pb2.ListInteractionsResponse:
        page, token, total = await self._histories.page(request.user_id, request.page_size, request.page_token)
        return gateway_pb2.ListInteractionsResponse(
            interactions=[entry_to_proto(entry, item) for entry, item in page],
            next_page_token=token,
            total_size=total,
        )


class CatalogServicer(gateway_pb2_grpc.CatalogServiceServicer):
    """CatalogService: the decoder's catalogue under public names."""

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
