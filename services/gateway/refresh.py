"""The writing of a profile: history from Redis, items from the catalogue, text from the encoder, back by compare-and-set."""

from __future__ import annotations

import unicodedata

from langptune.domain import Interaction
from langptune.errors import FailedPrecondition, NotFound
from services.gateway.backends import Decoder, Encoder
from services.gateway.interactions import Interactions
from services.gateway.live import LiveRelease
from services.gateway.profiles import MAX_PROFILE, Draft, Origin, Profiles, Revision, normalise


class Histories:
    """Users' histories with whole items."""

    def __init__(self, interactions: Interactions, decoder: Decoder) -> None:
        self._interactions = interactions
        self._decoder = decoder

    async def latest(self, user_id: str, size: int) -> list[Interaction]:
        """The newest `size` interactions, oldest first; those whose item the catalogue has no more are left out."""
        entries = await self._interactions.latest(user_id, size)
        items = await self._decoder.items(entry.item_id for entry in entries)
        return [entry.on(items[entry.item_id]) for entry in entries if entry.item_id in items]


class ProfileWriter:
    """Has the encoder write profiles."""

    def __init__(self, profiles: Profiles, histories: Histories, encoder: Encoder, live: LiveRelease, history_sent: int) -> None:
        self._profiles = profiles
        self._histories = histories
        self._encoder = encoder
        self._live = live
        self._history_sent = history_sent

    async def refresh(self, user_id: str, *, overwrite_edited: bool, seed: int | None) -> Revision:
        """A new revision under the live release. What the user changes while the encoder writes is never overwritten.

        Raises NotFound without a history, FailedPrecondition for a profile in the user's own words unless `overwrite_edited`,
        Aborted when the profile was changed meanwhile, and whatever the encoder raises.
        """
        current = await self._profiles.find(user_id)
        if current and current.own_words and not overwrite_edited:
            message = f"the profile of {user_id} was edited by the user; set overwrite_edited to replace it"
            raise FailedPrecondition(message, reason="PROFILE_EDITED", metadata={"etag": current.etag})
        pins = await self._live.require()
        history = await self._histories.latest(user_id, self._history_sent)
        if not history:
            raise NotFound("history", user_id)
        written = await self._encoder.write(history, pins.encoder_version, seed)
        draft = Draft(_plain(written.text), Origin.GENERATED, pins, written.interactions)
        return await self._profiles.extend(user_id, current, draft, expected=current.etag if current else "")


def _plain(text: str) -> str:
    """What a model wrote as a profile's text: no control characters, within the limit. Raises FailedPrecondition for no words."""
    kept = "".join(mark for mark in text if mark in "\t\n\r" or unicodedata.category(mark) not in ("Cc", "Cs"))
    if not kept.strip():
        raise FailedPrecondition("the encoder wrote a profile without words; nothing was changed", reason="PROFILE_EMPTY")
    return normalise(kept.strip()[:MAX_PROFILE])
