"""What to recommend: by the user's profile, else by the history's text, else by popularity; and which it was, and why.

No language model is on this path: an encoder that is down changes nothing here. Without the decoder there is no catalogue to
recommend from, and its error goes to the caller.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from langptune.convert import check_id, check_range, item_to_proto
from langptune.domain import Interaction
from langptune.text import sentences
from langptune.v1 import common_pb2, gateway_pb2
from services.gateway.backends import Decoder
from services.gateway.histories import Histories
from services.gateway.interactions import Interactions
from services.gateway.live import LiveRelease
from services.gateway.profiles import Pins, Profiles

_PAGE = 1_000  # items of the catalogue at a time
_MOST_SENTENCES = 64  # of a profile that is explained


class Basis(StrEnum):
    """What a ranking was made from."""

    PROFILE = "profile"
    HISTORY = "history"
    POPULARITY = "popularity"


@dataclass(frozen=True, slots=True)
class Query:
    """What a user's ranking is made from, before anything is ranked."""

    basis: Basis
    text: str  # the profile; empty by history and by popularity
    seen: Collection[str]  # items of the history: not ranked
    reason: str = ""  # why it is not the profile
    pins: Pins = field(default_factory=Pins)
    profile_revision: int = 0
    history: Sequence[Interaction] = ()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A ranking, and where it comes from."""

    items: Sequence[common_pb2.RankedItem]
    basis: Basis
    reason: str = ""  # why it is not the profile
    pins: Pins = field(default_factory=Pins)
    profile_revision: int = 0
    reasons: Sequence[gateway_pb2.Reason] = ()  # one per item where they were asked for and it is the profile


class Recommender:
    """Ranks the catalogue for a user."""

    def __init__(
        self,
        profiles: Profiles,
        interactions: Interactions,
        histories: Histories,
        decoder: Decoder,
        live: LiveRelease,
        history_ranked: int,
    ) -> None:
        self._profiles = profiles
        self._interactions = interactions
        self._histories = histories
        self._decoder = decoder
        self._live = live
        self._history_ranked = history_ranked

    async def recommend(self, user_id: str, k: int, *, explain: bool = False) -> Recommendation:
        """The best `k` (1 to 100, 0 means 10) items that the user has not interacted with. Raises InvalidArgument."""
        k = check_range("k", k, 1, 100, default=10)
        query = await self.query(user_id)
        if query.basis is Basis.POPULARITY:
            return await self._by_popularity(k, query)
        items = await self._decoder.rank(query.text, query.pins.decoder_version, k, query.seen, query.history)
        reasons: Sequence[gateway_pb2.Reason] = ()
        if explain and query.basis is Basis.PROFILE and 1 <= len(sentences(query.text)) <= _MOST_SENTENCES:
            item_ids = [place.item.item_id for place in items]
            reasons = await self._decoder.reasons(query.text, query.pins.decoder_version, item_ids)
        return Recommendation(items, query.basis, query.reason, query.pins, query.profile_revision, reasons)

    async def query(self, user_id: str) -> Query:
        """What the user's ranking is made from now. Raises InvalidArgument."""
        check_id("user_id", user_id)
        seen = await self._interactions.item_ids(user_id)
        pins = await self._live.find()
        if pins is None:
            return Query(Basis.POPULARITY, "", seen, "no release is live yet")
        profile = await self._profiles.find(user_id)
        if profile:
            return Query(Basis.PROFILE, profile.text, seen, "", pins, profile.revision)
        history = await self._histories.latest(user_id, self._history_ranked) if seen else []
        if history:
            return Query(Basis.HISTORY, "", seen, f"{user_id} has no profile yet", pins, history=history)
        return Query(Basis.POPULARITY, "", seen, f"{user_id} has neither a profile nor a history yet", pins)

    async def _by_popularity(self, k: int, query: Query) -> Recommendation:
        left_out = set(query.seen)
        popular = [entry for entry in await self._interactions.popular(k + len(left_out)) if entry[0] not in left_out][:k]
        items = await self._decoder.items(item_id for item_id, _ in popular)
        chosen = [(item_to_proto(items[item_id]), share) for item_id, share in popular if item_id in items]
        if len(chosen) < k:
            left_out.update(item.item_id for item, _ in chosen)
            chosen += [(item, 0.0) for item in await self._first_items(k - len(chosen), left_out)]
        ranked = [
            common_pb2.RankedItem(item=item, position=position, score=share)
            for position, (item, share) in enumerate(chosen, start=1)
        ]
        return Recommendation(ranked, Basis.POPULARITY, query.reason, query.pins)

    async def _first_items(self, size: int, left_out: Collection[str]) -> list[common_pb2.Item]:
        """The first items of the catalogue that nobody has chosen yet."""
        found: list[common_pb2.Item] = []
        token = ""
        while len(found) < size:
            page = await self._decoder.page(min(_PAGE, size + len(left_out)), token)
            found += [item for item in page.items if item.item_id not in left_out]
            token = page.next_page_token
            if not token:
                break
        return found[:size]
