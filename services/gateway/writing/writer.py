"""The writing of a profile: history from Redis, items from the catalogue, text from the encoder, back by compare-and-set.

The encoder knows one prompt, that which its models were trained on; what goes into it is decided here. A history longer than a
segment is written about run by run, and the sentences are merged. When a profile is kept fresh off the request path, only what
is new is written about, and merged with the profile before (docs/profiles.md has the figures).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from langptune.convert import without_controls
from langptune.domain import Interaction
from langptune.errors import FailedPrecondition, NotFound
from services.gateway.interactions.histories import Histories
from services.gateway.interactions.store import key_of
from services.gateway.live import LiveRelease
from services.gateway.peers.encoder import Encoder
from services.gateway.profiles.erasure import Erasures
from services.gateway.profiles.revision import MAX_PROFILE, Draft, Origin, Revision, Suggestion, normalise
from services.gateway.profiles.store import NO_SUGGESTION, Profiles
from services.gateway.refresh.queue import RefreshQueue
from services.gateway.writing.merging import merged


@dataclass(frozen=True, slots=True)
class Portions:
    """How much of a history is written about, and how much at once."""

    history: int  # newest interactions that are read
    segment: int  # interactions of one prompt; 0: all of them
    sentences: int  # that are kept of a merged profile


class ProfileWriter:
    """Has the encoder write profiles."""

    def __init__(
        self,
        profiles: Profiles,
        histories: Histories,
        encoder: Encoder,
        live: LiveRelease,
        queue: RefreshQueue,
        erasures: Erasures,
        portions: Portions,
    ) -> None:
        self._profiles = profiles
        self._erasures = erasures
        self._histories = histories
        self._encoder = encoder
        self._live = live
        self._queue = queue
        self._portions = portions

    async def refresh(
        self,
        user_id: str,
        *,
        overwrite_edited: bool = False,
        seed: int | None = None,
        as_of_ms: int | None = None,
        incremental: bool = False,
    ) -> tuple[Revision, Suggestion | None]:
        """The profile as it is now, and what was written if that was laid beside the user's own words. Marks are heeded.

        With `as_of_ms`, nothing that happened later is read; `incremental` goes on from what the encoder wrote before.

        Raises NotFound without a history, Aborted when the profile was changed or the user's data deleted meanwhile,
        FailedPrecondition when nothing is left to say, and whatever the encoder raises.
        """
        begun = await self._erasures.count(user_id)
        fresh, _ = await self._queue.state(user_id)
        current = await self._profiles.find(user_id)
        pins = await self._live.require()
        history = await self._histories.latest(user_id, self._portions.history, as_of_ms)
        if not history:
            raise NotFound("history", user_id)
        known = await self._known(current) if incremental else ()
        said, sources = await self._write(history, current, known, pins.encoder_version, seed)
        text = _plain((await self._profiles.marks(user_id)).heeded(said))
        draft = Draft(text, Origin.GENERATED, pins, len(sources), sources=sources)
        stored = await self._store(user_id, current, draft, suggest=not overwrite_edited, begun=begun)
        if as_of_ms is None:
            await self._queue.settle(user_id, fresh)
        return stored

    async def _known(self, current: Revision | None) -> Sequence[str]:
        """Keys of the interactions that the profile tells of already, where it is one to go on from."""
        if not self._portions.segment or current is None or current.own_words:
            return ()
        return await self._profiles.sources(current.user_id, current.revision)

    async def _write(
        self, history: Sequence[Interaction], current: Revision | None, known: Sequence[str], version: str, seed: int | None
    ) -> tuple[str, list[str]]:
        """A text about `history`, and the keys of the interactions behind it, oldest first."""
        read = set(known)
        new = [entry for entry in history if key_of(entry) not in read]
        if current is None or not known or not new:
            known, new = (), list(history)
        size = self._portions.segment or len(new)
        parts = [new[max(0, end - size) : end] for end in range(len(new), 0, -size)]  # newest first
        seeds = [None if seed is None else seed + at for at in range(len(parts))]
        written = await asyncio.gather(*(self._encoder.write(part, version, own) for part, own in zip(parts, seeds, strict=True)))
        sources = [
            key_of(entry)
            for part, found in reversed(list(zip(parts, written, strict=True)))
            for entry in part[len(part) - found.interactions :]  # the oldest are left out first
        ]
        texts = [found.text for found in written] + ([current.text] if current and known else [])
        said = texts[0] if len(texts) == 1 else merged(texts, self._portions.sentences)
        return said, [*known, *sources][-self._portions.history :]

    async def _store(
        self, user_id: str, current: Revision | None, draft: Draft, *, suggest: bool, begun: str
    ) -> tuple[Revision, Suggestion | None]:
        if current and current.own_words and suggest:
            moment = time.time_ns() // 1_000_000
            suggestion = Suggestion(draft.text, draft.pins, draft.interactions, moment, tuple(draft.sources))
            await self._profiles.suggest(user_id, suggestion, begun=begun)
            return current, suggestion
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
