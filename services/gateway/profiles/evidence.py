"""What the sentences of a profile rest on: for each the interactions that support it, or none, and then that is what is said.

A revision is held against the interactions that it was written from; the user's own words against the history as it was at the
time. How near a sentence is to an interaction is told by the live release's embedder (docs/profiles.md has the measure and how
the threshold was chosen); no language model is asked. Scores are kept in Redis by revision and decoder version.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import redis.asyncio as redis

from langptune.convert import check_id
from langptune.domain import Interaction
from langptune.errors import FailedPrecondition
from langptune.text import sentences, states_dislike
from services.gateway.interactions.histories import Histories
from services.gateway.interactions.store import key_of
from services.gateway.live import LiveRelease, Pins
from services.gateway.peers.decoder import Decoder
from services.gateway.profiles.erasure import Erasures, erasure_key
from services.gateway.profiles.revision import Revision
from services.gateway.profiles.store import Profiles

_MOST_SENTENCES = 64
_SHOWN = 10  # interactions for a sentence, at most
_DISLIKED = 3.0  # stars; an interaction that was rated better does not support a dislike
_KEY = "langptune:evidence:{}"
_CACHED = 8  # revisions of a user
_KEPT = 86_400  # seconds; the catalogue that scores are relative to changes slowly

# KEYS: the user's scores, erasures. ARGV: field, value, most fields, seconds, the user's erasures when they were begun.
_REMEMBER = """
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[5] then return end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
"""


class EvidenceBasis(StrEnum):
    """Which interactions the sentences were held against."""

    WRITTEN_FROM = "written_from"
    HISTORY = "history"


@dataclass(frozen=True, slots=True)
class Support:
    """An interaction that speaks for a sentence."""

    interaction: Interaction
    score: float  # standard deviations nearer than the catalogue on average


@dataclass(frozen=True, slots=True)
class SentenceEvidence:
    """One sentence, and what it rests on."""

    sentence: str
    support: Sequence[Support]  # the strongest first; empty: nothing supports it
    nearest: float | None  # score of the nearest interaction; None where there is none


@dataclass(frozen=True, slots=True)
class ProfileEvidence:
    """All sentences of one revision, in reading order."""

    revision: int
    sentences: Sequence[SentenceEvidence]
    basis: EvidenceBasis
    interactions: int  # that were held against
    missing: int  # that belong to them and are not there any more
    pins: Pins


class EvidenceFinder:
    """Looks for what profiles rest on."""

    def __init__(
        self,
        client: redis.Redis,
        profiles: Profiles,
        histories: Histories,
        decoder: Decoder,
        live: LiveRelease,
        erasures: Erasures,
        *,
        threshold: float,  # score from which on an interaction is support
        history_sent: int,
    ) -> None:
        self.threshold = threshold
        self._redis = client
        self._remember = client.register_script(_REMEMBER)
        self._profiles = profiles
        self._histories = histories
        self._decoder = decoder
        self._live = live
        self._erasures = erasures
        self._history_sent = history_sent

    async def explain(self, user_id: str, revision: int) -> ProfileEvidence:
        """The evidence for a kept revision; 0 is the current one.

        Raises NotFound, FailedPrecondition before the first release and for more than 64 sentences, and what the decoder raises.
        """
        begun = await self._erasures.count(user_id)
        profile = await (self._profiles.at(user_id, revision) if revision else self._profiles.get(user_id))
        pins = await self._live.require()
        texts = sentences(profile.text)
        if len(texts) > _MOST_SENTENCES:
            message = f"the profile has {len(texts)} sentences; evidence is looked for of at most {_MOST_SENTENCES}"
            raise FailedPrecondition(message, reason="TOO_MANY_SENTENCES")
        sources = await self._profiles.sources(user_id, profile.revision)
        basis = EvidenceBasis.WRITTEN_FROM if sources else EvidenceBasis.HISTORY
        history = await (
            self._histories.named(user_id, sources)
            if sources
            else self._histories.latest(user_id, self._history_sent, profile.create_time_ms)
        )
        scores = (
            await self._scores(profile, texts, history, pins.decoder_version, begun) if texts and history else [[]] * len(texts)
        )
        found = [self._weigh(text, history, row) for text, row in zip(texts, scores, strict=True)]
        return ProfileEvidence(profile.revision, found, basis, len(history), max(0, len(sources) - len(history)), pins)

    async def forget(self, user_id: str) -> None:
        """Remove what is kept of the user's scores."""
        await self._redis.delete(_KEY.format(check_id("user_id", user_id)))

    async def _scores(
        self, profile: Revision, texts: Sequence[str], history: Sequence[Interaction], version: str, begun: str
    ) -> list[list[float]]:
        """[sentences, interactions], from Redis if the same was asked before; kept unless the user was erased since `begun`."""
        key, field = _KEY.format(profile.user_id), f"{profile.etag} {version}"
        names = [key_of(entry) for entry in history]
        stored = await self._redis.hget(key, field)
        if stored and (known := json.loads(stored))["interactions"] == names:
            return list(known["scores"])
        fresh = [[round(score, 4) for score in row] for row in await self._decoder.nearness(texts, history, version)]
        value = json.dumps({"interactions": names, "scores": fresh})
        await self._remember(keys=[key, erasure_key(profile.user_id)], args=[field, value, _CACHED, _KEPT, begun])
        return fresh

    def _weigh(self, sentence: str, history: Sequence[Interaction], scores: Sequence[float]) -> SentenceEvidence:
        best = _DISLIKED if states_dislike(sentence) else math.inf
        fitting = [(entry, score) for entry, score in zip(history, scores, strict=True) if entry.rating <= best]
        ordered = sorted(fitting, key=lambda pair: -pair[1])
        support = [Support(entry, score) for entry, score in ordered[:_SHOWN] if score >= self.threshold]
        return SentenceEvidence(sentence, support, ordered[0][1] if ordered else None)
