"""The writing of a profile: history from Redis, items from the catalogue, text from the encoder, back by compare-and-set."""

from __future__ import annotations

from langptune.convert import without_controls
from langptune.errors import FailedPrecondition, NotFound
from services.gateway.backends import Encoder
from services.gateway.histories import Histories
from services.gateway.live import LiveRelease
from services.gateway.profiles import MAX_PROFILE, Draft, Origin, Profiles, Revision, normalise


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
    kept = without_controls(text).strip()[:MAX_PROFILE]
    if not kept:
        raise FailedPrecondition("the encoder wrote a profile without words; nothing was changed", reason="PROFILE_EMPTY")
    return normalise(kept)
