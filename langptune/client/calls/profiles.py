"""Profiles: read, edited, refreshed, explained, compared, restored."""

from __future__ import annotations

from collections.abc import AsyncIterator

from langptune.client.connection import Connection
from langptune.client.paging import pages
from langptune.client.values.evidence import ProfileEvidence, profile_evidence_from_proto
from langptune.client.values.profiles import (
    DiffPart,
    Profile,
    ProfilePage,
    SentenceMark,
    diff_part_from_proto,
    profile_from_proto,
    profile_page_from_proto,
)
from langptune.convert import timestamp
from langptune.v1 import gateway_pb2, gateway_pb2_grpc

REFRESH_TIMEOUT = 300.0  # seconds; a language model writes


class ProfileCalls(Connection):
    """ProfileService."""

    @property
    def _profiles(self) -> gateway_pb2_grpc.ProfileServiceStub:
        return self._stub(gateway_pb2_grpc.ProfileServiceStub)

    async def get_profile(self, user_id: str, *, timeout: float | None = None) -> Profile:
        """The current revision. Raises NotFound when the user has no profile yet."""
        request = gateway_pb2.GetProfileRequest(user_id=user_id)
        return profile_from_proto((await self._profiles.GetProfile(request, timeout=timeout)).profile)

    async def get_profile_page(self, user_id: str, *, timeout: float | None = None) -> ProfilePage:
        """The current revision with the suggestion and the marks beside it. Raises NotFound as `get_profile`."""
        request = gateway_pb2.GetProfileRequest(user_id=user_id)
        return profile_page_from_proto(await self._profiles.GetProfile(request, timeout=timeout))

    async def update_profile(self, user_id: str, text: str, *, etag: str = "", timeout: float | None = None) -> Profile:
        """Replace the text by the user's own words; `etag` is that of the revision that was read, empty where there is none.

        The result is on disk. Raises Aborted with the current etag when somebody else was first.
        """
        request = gateway_pb2.UpdateProfileRequest(user_id=user_id, text=text, etag=etag)
        return profile_from_proto((await self._profiles.UpdateProfile(request, timeout=timeout)).profile)

    async def refresh_profile(
        self,
        user_id: str,
        *,
        overwrite_edited: bool = False,
        seed: int | None = None,
        as_of_ms: int | None = None,
        timeout: float | None = REFRESH_TIMEOUT,
    ) -> Profile:
        """Have the encoder write from the user's history; returns the profile as it is now.

        A profile that the user has edited stays as it is unless `overwrite_edited`: what was written lies beside it as the
        suggestion (`get_profile_page`). With `as_of_ms` nothing that happened later is read. Raises NotFound without a history,
        Aborted when the profile was changed meanwhile, Unavailable while the encoder is down.
        """
        as_of = timestamp(as_of_ms) if as_of_ms is not None else None
        request = gateway_pb2.RefreshProfileRequest(user_id=user_id, overwrite_edited=overwrite_edited, seed=seed, as_of=as_of)
        return profile_from_proto((await self._profiles.RefreshProfile(request, timeout=timeout)).profile)

    async def accept_profile_suggestion(
        self, user_id: str, *, etag: str, merged_text: str = "", timeout: float | None = None
    ) -> Profile:
        """The suggestion, or `merged_text` in its place, becomes the profile. Raises NotFound, else as `update_profile`."""
        request = gateway_pb2.AcceptProfileSuggestionRequest(user_id=user_id, etag=etag, merged_text=merged_text)
        return profile_from_proto((await self._profiles.AcceptProfileSuggestion(request, timeout=timeout)).profile)

    async def dismiss_profile_suggestion(self, user_id: str, *, timeout: float | None = None) -> None:
        """Forget the suggestion, if there is one."""
        request = gateway_pb2.DismissProfileSuggestionRequest(user_id=user_id)
        await self._profiles.DismissProfileSuggestion(request, timeout=timeout)

    async def mark_profile_sentence(
        self, user_id: str, sentence: str, mark: SentenceMark, *, etag: str, timeout: float | None = None
    ) -> Profile:
        """Pin a sentence, call it not true (it leaves the profile at once), or take its mark back. Raises as `update_profile`."""
        value = gateway_pb2.SentenceMark.Value(f"SENTENCE_MARK_{mark.name}")
        request = gateway_pb2.MarkProfileSentenceRequest(user_id=user_id, sentence=sentence, mark=value, etag=etag)
        return profile_from_proto((await self._profiles.MarkProfileSentence(request, timeout=timeout)).profile)

    async def explain_profile(self, user_id: str, revision: int = 0, *, timeout: float | None = None) -> ProfileEvidence:
        """What each sentence of a revision (0: the current one) rests on. Raises NotFound for one that is not kept."""
        request = gateway_pb2.ExplainProfileRequest(user_id=user_id, revision=revision)
        return profile_evidence_from_proto(await self._profiles.ExplainProfile(request, timeout=timeout))

    async def list_profile_revisions(self, user_id: str, *, page_size: int = 20) -> AsyncIterator[Profile]:
        """All kept revisions, newest first. Raises NotFound when the user has no profile."""
        request = gateway_pb2.ListProfileRevisionsRequest(user_id=user_id, page_size=page_size)
        async for response in pages(self._profiles.ListProfileRevisions, request):
            for revision in response.revisions:
                yield profile_from_proto(revision)

    async def diff_profile_revisions(
        self, user_id: str, from_revision: int, to_revision: int, *, timeout: float | None = None
    ) -> tuple[DiffPart, ...]:
        """What changed, word by word, in reading order. Raises NotFound for a revision that is not kept."""
        request = gateway_pb2.DiffProfileRevisionsRequest(user_id=user_id, from_revision=from_revision, to_revision=to_revision)
        response = await self._profiles.DiffProfileRevisions(request, timeout=timeout)
        return tuple(map(diff_part_from_proto, response.parts))

    async def restore_profile_revision(self, user_id: str, revision: int, *, etag: str, timeout: float | None = None) -> Profile:
        """Make an old revision's text the current one again, as a new revision. Raises as `update_profile`, and NotFound."""
        request = gateway_pb2.RestoreProfileRevisionRequest(user_id=user_id, revision=revision, etag=etag)
        return profile_from_proto((await self._profiles.RestoreProfileRevision(request, timeout=timeout)).profile)

    async def add_avoid_phrase(self, user_id: str, phrase: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """All that the user never wants, with `phrase` ("clowns"). Raises FailedPrecondition beyond 20 phrases."""
        request = gateway_pb2.AddAvoidPhraseRequest(user_id=user_id, phrase=phrase)
        return tuple((await self._profiles.AddAvoidPhrase(request, timeout=timeout)).phrases)

    async def remove_avoid_phrase(self, user_id: str, phrase: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """All that the user never wants, without `phrase`."""
        request = gateway_pb2.RemoveAvoidPhraseRequest(user_id=user_id, phrase=phrase)
        return tuple((await self._profiles.RemoveAvoidPhrase(request, timeout=timeout)).phrases)

    async def list_avoid_phrases(self, user_id: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """All that the user never wants, in alphabetical order; for users without a profile, too."""
        request = gateway_pb2.ListAvoidPhrasesRequest(user_id=user_id)
        return tuple((await self._profiles.ListAvoidPhrases(request, timeout=timeout)).phrases)
