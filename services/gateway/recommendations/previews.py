"""What an edit would do: the ranking by an unsaved text, and how far each item would move. Nothing is stored.

Old places are exact ranks under the text that the user is ranked by now, so an item that comes from far down shows how far. Both
rankings are under the same rules: what the user has seen is left out, what the user avoids is left out or lowered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from langptune.convert import check_range
from langptune.errors import FailedPrecondition
from langptune.v1 import common_pb2, gateway_pb2
from services.gateway.peers.decoder import Decoder
from services.gateway.profiles.revision import normalise
from services.gateway.recommendations.recommender import Basis, Query, Recommender


@dataclass(frozen=True, slots=True)
class Preview:
    """Both rankings, held against each other."""

    items: Sequence[gateway_pb2.PreviewedItem]  # by the unsaved text
    leaving: Sequence[gateway_pb2.PreviewedItem]  # no longer among them
    query: Query  # what the ranking is made from now


class Previewer:
    """Ranks by texts that are not saved."""

    def __init__(self, recommender: Recommender, decoder: Decoder) -> None:
        self._recommender = recommender
        self._decoder = decoder

    async def preview(self, user_id: str, text: str, k: int) -> Preview:
        """The best `k` (1 to 100, 0 means 10). Raises InvalidArgument, and FailedPrecondition before the first release."""
        k = check_range("k", k, 1, 100, default=10)
        text = normalise(text)
        query = await self._recommender.query(user_id)
        version = query.pins.decoder_version
        if not version:
            raise FailedPrecondition(query.reason, reason="NO_LIVE_RELEASE")
        if query.basis is Basis.POPULARITY:
            ranked = await self._decoder.rank(text, version, k, query.rules)
            return Preview([_previewed(place, 0) for place in ranked], [], query)
        ranked, present = await asyncio.gather(
            self._decoder.rank(text, version, k, query.rules),
            self._decoder.rank(query.text, version, k, query.rules, query.history),
        )
        coming = {place.item.item_id for place in ranked}
        leaving = [place for place in present if place.item.item_id not in coming]
        before, after = await asyncio.gather(
            self._decoder.places(query.text, version, [place.item.item_id for place in ranked], query.rules, query.history),
            self._decoder.places(text, version, [place.item.item_id for place in leaving], query.rules),
        )
        return Preview(
            [_previewed(place, before[place.item.item_id]) for place in ranked],
            [_left(place, after[place.item.item_id]) for place in leaving],
            query,
        )


def _previewed(place: common_pb2.RankedItem, previous: int) -> gateway_pb2.PreviewedItem:
    return gateway_pb2.PreviewedItem(item=place.item, position=place.position, previous_position=previous, score=place.score)


def _left(place: common_pb2.RankedItem, position: int) -> gateway_pb2.PreviewedItem:
    return gateway_pb2.PreviewedItem(item=place.item, position=position, previous_position=place.position)
