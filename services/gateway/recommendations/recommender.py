"""What to recommend: by the user's profile, else by the history's text, else by popularity; and which it was, and why.

No language model is on this path: an encoder that is down changes nothing here. Without the decoder there is no catalogue to
recommend from, and its error goes to the caller.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import redis.asyncio as redis

from langptune.convert import check_id, check_range, item_to_proto
from langptune.domain import Interaction, Item
from langptune.state import read_together
from langptune.text import sentences
from langptune.v1 import common_pb2, gateway_pb2
from langptune.weights.releases import LIVE_ID
from services.gateway.interactions.histories import Histories
from services.gateway.interactions.store import Interactions
from services.gateway.live import LiveRelease, Pins
from services.gateway.peers.decoder import Decoder, Rules
from services.gateway.profiles.store import Profiles
from services.gateway.recommendations.avoid import AvoidPhrases, together

_PAGE = 1_000  # items that are looked through at a time
_MOST = 20_000  # items that are looked through for some that the rules let pass
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
    rules: Rules  # what may come out: not the items of the history, nor what the user avoids
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
        client: redis.Redis,
        profiles: Profiles,
        interactions: Interactions,
        histories: Histories,
        decoder: Decoder,
        live: LiveRelease,
        avoid: AvoidPhrases,
        history_ranked: int,
    ) -> None:
        self._redis = client
        self._avoid = avoid
        self._profiles = profiles
        self._interactions = interactions
        self._histories = histories
        self._decoder = decoder
        self._live = live
        self._history_ranked = history_ranked

    async def recommend(
        self,
        user_id: str,
        k: int,
        *,
        explain: bool = False,
        avoid: Sequence[str] = (),  # beside what the user avoids always
        where: common_pb2.ItemFilter | None = None,
    ) -> Recommendation:
        """The best `k` (1 to 100, 0 means 10) items that the user has not interacted with. Raises InvalidArgument."""
        k = check_range("k", k, 1, 100, default=10)
        query = await self.query(user_id, avoid, where)
        if query.basis is Basis.POPULARITY:
            return await self._by_popularity(k, query)
        items = await self._decoder.rank(query.text, query.pins.decoder_version, k, query.rules, query.history)
        reasons: Sequence[gateway_pb2.Reason] = ()
        if explain and query.basis is Basis.PROFILE and 1 <= len(sentences(query.text)) <= _MOST_SENTENCES:
            item_ids = [place.item.item_id for place in items]
            reasons = await self._decoder.reasons(query.text, query.pins.decoder_version, item_ids)
        return Recommendation(items, query.basis, query.reason, query.pins, query.profile_revision, reasons)

    async def query(self, user_id: str, avoid: Sequence[str] = (), where: common_pb2.ItemFilter | None = None) -> Query:
        """What the user's ranking is made from now. Raises InvalidArgument."""
        check_id("user_id", user_id)
        seen, phrases, profile, release_id = await read_together(
            self._redis,
            self._interactions.item_ids(user_id),
            self._avoid.phrases(user_id),
            self._profiles.current(user_id),
            LIVE_ID,
        )
        rules = Rules(seen, together(phrases, avoid), where)
        pins = await self._live.pins(release_id)
        if pins is None:
            return Query(Basis.POPULARITY, "", rules, "no release is live yet")
        if profile:
            return Query(Basis.PROFILE, profile.text, rules, "", pins, profile.revision)
        history = await self._histories.latest(user_id, self._history_ranked) if seen else []
        if history:
            return Query(Basis.HISTORY, "", rules, f"{user_id} has no profile yet", pins, history=history)
        return Query(Basis.POPULARITY, "", rules, f"{user_id} has neither a profile nor a history yet", pins)

    async def _by_popularity(self, k: int, query: Query) -> Recommendation:
        chosen: list[tuple[Item, float]] = []
        async for page in self._candidates(query):
            shares = dict(page)
            allowed = await self._decoder.select(list(shares), query.pins.decoder_version, query.rules)
            items = await self._decoder.items(allowed[: k - len(chosen)])
            chosen += [(item, shares[item_id]) for item_id, item in items.items()]
            if len(chosen) >= k:
                break
        ranked = [
            common_pb2.RankedItem(item=item_to_proto(item), position=position, score=share)
            for position, (item, share) in enumerate(chosen[:k], start=1)
        ]
        return Recommendation(ranked, Basis.POPULARITY, query.reason, query.pins)

    async def _candidates(self, query: Query) -> AsyncIterator[list[tuple[str, float]]]:
        """Items by pages, with the share of users who chose them: the popular ones, then the first that nobody has chosen yet."""
        seen = set(query.rules.exclude)
        for start in range(0, _MOST, _PAGE):
            page = await self._interactions.popular(_PAGE, start)
            yield [entry for entry in page if entry[0] not in seen]
            seen.update(item_id for item_id, _ in page)
            if len(page) < _PAGE:
                break
        token = ""
        for _ in range(0, _MOST, _PAGE):
            items = await self._decoder.page(_PAGE, token)
            yield [(item.item_id, 0.0) for item in items.items if item.item_id not in seen]
            token = items.next_page_token
            if not token:
                break
