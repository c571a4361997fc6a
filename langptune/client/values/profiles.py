"""Profiles, what lies beside them, and how two revisions differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from langptune.client.values.versions import Versions, versions_from_proto
from langptune.v1 import gateway_pb2


class ProfileOrigin(StrEnum):
    """Who wrote a revision."""

    GENERATED = "generated"
    EDITED = "edited"
    RESTORED = "restored"
    SUGGESTED = "suggested"


@dataclass(frozen=True, slots=True)
class Profile:
    """A user's profile at one revision."""

    user_id: str
    text: str
    revision: int  # from 1
    etag: str  # to be given with the next change
    origin: ProfileOrigin
    versions: Versions  # that wrote it; for edited text those that were live
    create_time_ms: int
    interactions: int  # that the text was written from; 0 for edited text


class SentenceMark(StrEnum):
    """What a user says of a sentence."""

    PINNED = "pinned"  # it stays when the profile is written again
    NOT_TRUE = "not_true"  # it is left out when the profile is written again
    NONE = "none"  # no mark any more


@dataclass(frozen=True, slots=True)
class ProfileSuggestion:
    """What the encoder would write now, beside a profile in the user's own words."""

    text: str
    versions: Versions  # that wrote it
    create_time_ms: int
    interactions: int  # that it was written from


@dataclass(frozen=True, slots=True)
class ProfilePage:
    """A profile with what lies beside it."""

    profile: Profile
    suggestion: ProfileSuggestion | None
    marks: Mapping[str, SentenceMark]  # by sentence
    avoid: tuple[str, ...] = ()  # what the user never wants
    new_interactions: int = 0  # recorded since the profile was last written from the history
    refresh_pending: bool = False  # whether the writing of a profile waits or is under way


class DiffKind(StrEnum):
    """What became of a piece of text."""

    KEPT = "kept"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class DiffPart:
    """Neighbouring words with the same fate."""

    kind: DiffKind
    text: str


def profile_from_proto(message: gateway_pb2.Profile) -> Profile:
    return Profile(
        user_id=message.user_id,
        text=message.text,
        revision=message.revision,
        etag=message.etag,
        origin=ProfileOrigin(gateway_pb2.ProfileOrigin.Name(message.origin).removeprefix("PROFILE_ORIGIN_").lower()),
        versions=versions_from_proto(message.versions),
        create_time_ms=message.create_time.ToMilliseconds(),
        interactions=message.interactions,
    )


def profile_page_from_proto(message: gateway_pb2.GetProfileResponse) -> ProfilePage:
    marks = {
        each.sentence: SentenceMark(gateway_pb2.SentenceMark.Name(each.mark).removeprefix("SENTENCE_MARK_").lower())
        for each in message.marks
    }
    suggestion = _suggestion(message.suggestion) if message.HasField("suggestion") else None
    return ProfilePage(
        profile_from_proto(message.profile),
        suggestion,
        marks,
        avoid=tuple(message.avoid),
        new_interactions=message.new_interactions,
        refresh_pending=message.refresh_pending,
    )


def _suggestion(message: gateway_pb2.ProfileSuggestion) -> ProfileSuggestion:
    return ProfileSuggestion(
        message.text, versions_from_proto(message.versions), message.create_time.ToMilliseconds(), message.interactions
    )


def diff_part_from_proto(message: gateway_pb2.DiffPart) -> DiffPart:
    return DiffPart(DiffKind(gateway_pb2.DiffKind.Name(message.kind).removeprefix("DIFF_KIND_").lower()), message.text)
