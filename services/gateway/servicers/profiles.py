"""ProfileService: translate in, call the core, translate out."""

# ruff: noqa: N802  # gRPC names the methods

from __future__ import annotations

from typing import Any

from langptune.convert import check_time
from langptune.v1 import gateway_pb2, gateway_pb2_grpc
from services.gateway.live import LiveRelease, Pins
from services.gateway.profiles.diffs import diff
from services.gateway.profiles.evidence import EvidenceFinder
from services.gateway.profiles.lengths import LengthCheck
from services.gateway.profiles.messages import (
    evidence_to_proto,
    mark_from_proto,
    marks_to_proto,
    profile_to_proto,
    suggestion_to_proto,
)
from services.gateway.profiles.store import Profiles
from services.gateway.recommendations.avoid import AvoidPhrases
from services.gateway.refresh.queue import RefreshQueue
from services.gateway.writing.writer import ProfileWriter


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
