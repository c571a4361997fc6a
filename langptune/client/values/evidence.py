"""What the sentences of a profile rest on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from langptune.client.values.interactions import interaction_from_proto
from langptune.client.values.versions import Versions, versions_from_proto
from langptune.domain import Interaction
from langptune.v1 import gateway_pb2


class EvidenceBasis(StrEnum):
    """Which interactions the sentences of a profile were held against."""

    WRITTEN_FROM = "written_from"  # those that the text was written from
    HISTORY = "history"  # the user's newest at the time: the text is the user's own


@dataclass(frozen=True, slots=True)
class Support:
    """An interaction that speaks for a sentence."""

    interaction: Interaction
    score: float  # how much nearer it is to the sentence than the catalogue on average, in standard deviations


@dataclass(frozen=True, slots=True)
class SentenceEvidence:
    """What one sentence of a profile rests on."""

    sentence: str
    support: tuple[Support, ...]  # the strongest first; empty: nothing supports the sentence
    nearest_score: float | None  # of the nearest interaction, support or not


@dataclass(frozen=True, slots=True)
class ProfileEvidence:
    """What a revision of a profile rests on."""

    revision: int
    sentences: tuple[SentenceEvidence, ...]  # in reading order
    basis: EvidenceBasis
    interactions: int  # that the sentences were held against
    missing_interactions: int  # that belong to them and are not kept any more
    threshold: float  # the score from which on an interaction is support
    versions: Versions  # that compared


def profile_evidence_from_proto(message: gateway_pb2.ExplainProfileResponse) -> ProfileEvidence:
    return ProfileEvidence(
        revision=message.revision,
        sentences=tuple(map(_sentence_evidence, message.sentences)),
        basis=EvidenceBasis(gateway_pb2.EvidenceBasis.Name(message.basis).removeprefix("EVIDENCE_BASIS_").lower()),
        interactions=message.interactions,
        missing_interactions=message.missing_interactions,
        threshold=message.threshold,
        versions=versions_from_proto(message.versions),
    )


def _sentence_evidence(message: gateway_pb2.SentenceEvidence) -> SentenceEvidence:
    support = tuple(Support(interaction_from_proto(each.interaction), each.score) for each in message.support)
    return SentenceEvidence(message.sentence, support, message.nearest_score if message.HasField("nearest_score") else None)
