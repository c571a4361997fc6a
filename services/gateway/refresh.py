"""The writing of a profile: history from Redis, items from the catalogue, text from the encoder, back by compare-and-set."""

from __future__ import annotations

import time

from langptune.convert import without_controls
from langptune.errors import FailedPrecondition, NotFound
from services.gateway.backends import Encoder
from services.gateway.erasure import Erasures
from services.gateway.histories import Histories
from services.gateway.live import LiveRelease
from services.gateway.profiles import MAX_PROFILE, NO_SUGGESTION, Draft, Origin, Profiles, Revision, Suggestion, normalise


class ProfileWriter:
    """Has the encoder write profiles."""

    def __init__(
        self,
        profiles: Profiles,
        histories: Histories,
        encoder: Encoder,
        live: LiveRelease,
        erasures: Erasures,
        history_sent: int,
    ) -> None:
        self._profiles = profiles
        self._erasures = erasures
        self._histories = histories
        self._encoder = encoder
        self._live = live
        self._history_sent = history_sent

    async def refresh(self, user_id: str, *, overwrite_edited: bool, seed: int | None) -> tuple[Revision, Suggestion | None]:
        """The profile as it is now, and what was written if that was laid beside the user's own words. Marks are heeded.

        Raises NotFound without a history, Aborted when the profile was changed or the user's data deleted meanwhile,
        FailedPrecondition when nothing is left to say, and whatever the encoder raises.
        """
        begun = await self._erasures.count(user_id)
        current = await self._profiles.find(user_id)
        pins = await self._live.require()
        history = await self._histories.latest(user_id, self._history_sent)
        if not history:
            raise NotFound("history", user_id)
        written = await self._encoder.write(history, pins.encoder_version, seed)
        text = _plain((await self._profiles.marks(user_id)).heeded(written.text))
        if current and current.own_words and not overwrite_edited:
            suggestion = Suggestion(text, pins, written.interactions, time.time_ns() // 1_000_000)
            await self._profiles.suggest(user_id, suggestion, begun=begun)
            return current, suggestion
        draft = Draft(text, Origin.GENERATED, pins, written.interactions)
        expected = current.etag if current else ""
        stored = await self._profiles.extend(user_id, current, draft, expected=expected, beside=NO_SUGGESTION, begun=begun)
        return stored, None


def _plain(text: str) -> str:
    """What a model wrote as a profile's text: no control characters, within the limit. Raises FailedPrecondition for no words."""
    kept = without_controls(text).strip()[:MAX_PROFILE]
    if not kept:
        raise FailedPrecondition(
            "the encoder wrote nothing that could stand as a profile; nothing was changed", reason="PROFILE_EMPTY"
        )
    return normalise(kept)
