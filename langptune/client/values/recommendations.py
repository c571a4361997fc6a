"""Rankings, and what an edit would do to them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from langptune.client.values.versions import Versions, versions_from_proto
from langptune.convert import item_from_catalogue
from langptune.domain import Item
from langptune.v1 import gateway_pb2


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One place in a ranking."""

    item: Item
    position: int  # 1 is best
    score: float  # cosine similarity, -1.0 to 1.0; by popularity: the share of users who chose the item


class RankingBasis(StrEnum):
    """What a ranking was made from."""

    PROFILE = "profile"
    HISTORY = "history"
    POPULARITY = "popularity"


@dataclass(frozen=True, slots=True)
class Reason:
    """The sentence of the profile that speaks most for an item."""

    sentence: str  # empty when none does
    contribution: float  # what the similarity of profile and item would lose without it


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A user's ranking."""

    items: tuple[RankedItem, ...]
    basis: RankingBasis
    basis_reason: str  # why it is not the profile; empty when it is
    versions: Versions
    profile_revision: int  # 0 without a profile
    reasons: tuple[Reason, ...] = ()  # one per item where they were asked for and the basis is the profile


@dataclass(frozen=True, slots=True)
class PreviewedItem:
    """An item under an unsaved text and as it is now."""

    item: Item
    position: int  # by the unsaved text; 1 is best
    previous_position: int  # now; 0 when there is nothing to compare with
    score: float  # cosine similarity with the unsaved text; 0.0 for an item that leaves


@dataclass(frozen=True, slots=True)
class Preview:
    """What an edit would do."""

    items: tuple[PreviewedItem, ...]  # best first, by the unsaved text
    leaving: tuple[PreviewedItem, ...]  # among the first now, and no longer
    basis: RankingBasis  # what the ranking comes from now
    versions: Versions
    profile_revision: int  # that the text was held against; 0 without a profile


def recommendation_from_proto(message: gateway_pb2.RecommendResponse) -> Recommendation:
    return Recommendation(
        items=tuple(RankedItem(item_from_catalogue(place.item), place.position, place.score) for place in message.items),
        basis=RankingBasis(gateway_pb2.RankingBasis.Name(message.basis).removeprefix("RANKING_BASIS_").lower()),
        basis_reason=message.basis_reason,
        versions=versions_from_proto(message.versions),
        profile_revision=message.profile_revision,
        reasons=tuple(Reason(each.sentence, each.contribution) for each in message.reasons),
    )


def preview_from_proto(message: gateway_pb2.PreviewResponse) -> Preview:
    return Preview(
        items=tuple(map(_previewed, message.items)),
        leaving=tuple(map(_previewed, message.leaving)),
        basis=RankingBasis(gateway_pb2.RankingBasis.Name(message.basis).removeprefix("RANKING_BASIS_").lower()),
        versions=versions_from_proto(message.versions),
        profile_revision=message.profile_revision,
    )


def _previewed(message: gateway_pb2.PreviewedItem) -> PreviewedItem:
    item = item_from_catalogue(message.item)
    return PreviewedItem(item, message.position, message.previous_position, message.score)
