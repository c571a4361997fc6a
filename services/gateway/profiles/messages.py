"""Profiles and what lies beside them as proto messages."""

from __future__ import annotations

from langptune.convert import interaction_to_proto, timestamp
from langptune.errors import InvalidArgument
from langptune.v1 import common_pb2, gateway_pb2
from services.gateway.live import Pins
from services.gateway.profiles.evidence import ProfileEvidence, SentenceEvidence
from services.gateway.profiles.marks import Mark, Marks
from services.gateway.profiles.revision import Revision, Suggestion


def pins_to_proto(pins: Pins) -> common_pb2.Versions:
    return common_pb2.Versions(
        encoder_version=pins.encoder_version, decoder_version=pins.decoder_version, release_id=pins.release_id
    )


def profile_to_proto(revision: Revision) -> gateway_pb2.Profile:
    return gateway_pb2.Profile(
        user_id=revision.user_id,
        text=revision.text,
        revision=revision.revision,
        etag=revision.etag,
        origin=gateway_pb2.ProfileOrigin.Value(f"PROFILE_ORIGIN_{revision.origin.name}"),
        versions=pins_to_proto(revision.pins),
        create_time=timestamp(revision.create_time_ms),
        interactions=revision.interactions,
    )


def suggestion_to_proto(suggestion: Suggestion | None) -> gateway_pb2.ProfileSuggestion | None:
    """None, where there is none, leaves a message's field absent."""
    if suggestion is None:
        return None
    return gateway_pb2.ProfileSuggestion(
        text=suggestion.text,
        versions=pins_to_proto(suggestion.pins),
        create_time=timestamp(suggestion.create_time_ms),
        interactions=suggestion.interactions,
    )


def marks_to_proto(marks: Marks) -> list[gateway_pb2.MarkedSentence]:
    """All marks, by sentence."""
    pinned = [(sentence, gateway_pb2.SENTENCE_MARK_PINNED) for sentence in marks.pinned]
    not_true = [(sentence, gateway_pb2.SENTENCE_MARK_NOT_TRUE) for sentence in marks.not_true]
    return [gateway_pb2.MarkedSentence(sentence=sentence, mark=mark) for sentence, mark in sorted(pinned + not_true)]


def evidence_to_proto(found: ProfileEvidence, threshold: float) -> gateway_pb2.ExplainProfileResponse:
    return gateway_pb2.ExplainProfileResponse(
        revision=found.revision,
        sentences=[_sentence(each) for each in found.sentences],
        basis=gateway_pb2.EvidenceBasis.Value(f"EVIDENCE_BASIS_{found.basis.name}"),
        interactions=found.interactions,
        missing_interactions=found.missing,
        threshold=threshold,
        versions=pins_to_proto(found.pins),
    )


def _sentence(evidence: SentenceEvidence) -> gateway_pb2.SentenceEvidence:
    support = [
        gateway_pb2.SupportingInteraction(interaction=interaction_to_proto(each.interaction), score=each.score)
        for each in evidence.support
    ]
    return gateway_pb2.SentenceEvidence(sentence=evidence.sentence, support=support, nearest_score=evidence.nearest)


def mark_from_proto(mark: gateway_pb2.SentenceMark.ValueType) -> Mark:
    """Raises InvalidArgument for none of the three."""
    if mark in (gateway_pb2.SENTENCE_MARK_PINNED, gateway_pb2.SENTENCE_MARK_NOT_TRUE, gateway_pb2.SENTENCE_MARK_NONE):
        return Mark[gateway_pb2.SentenceMark.Name(mark).removeprefix("SENTENCE_MARK_")]
    raise InvalidArgument("mark", "must be PINNED, NOT_TRUE or NONE")
