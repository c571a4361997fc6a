"""Validation of Section 4.1: a profile sampled per user, its exact ranks at cutoff 20, and how readable it is.

What was found of the release that the job started from is kept beside the job's checkpoints: the candidate is held against it,
user by user, by whichever attempt comes to the end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from langptune.domain import Session
from langptune.ranking import RankingQuality
from langptune.weights import Measurement, Readability
from services.trainer.learning.config import LearningConfig
from services.trainer.learning.ports import RankQuery
from services.trainer.worker.rewards import DecoderRewards
from services.trainer.worker.rollouts import EncoderRollouts
from services.trainer.worker.storage import writing

VALIDATION_CUTOFF = 20  # Section 4.1
_SEED = 1 << 32  # above the seeds of training


@dataclass(frozen=True, slots=True)
class Validated:
    """Means, and what they are means of."""

    quality: RankingQuality
    ndcg: Sequence[float]  # one per user
    readability: Readability | None  # None where histories stand for profiles

    def measurement(self, release_id: str) -> Measurement:
        """As it is kept with a release."""
        return Measurement(release_id, tuple(self.ndcg), self.readability)


class Validation:
    """Measures whatever versions `rollouts` and `rewards` stand at."""

    def __init__(
        self,
        sessions: Sequence[Session],
        rollouts: EncoderRollouts,
        rewards: DecoderRewards,
        config: LearningConfig,
        *,
        chunk: int,
        between: Callable[[], Awaitable[None]],
    ) -> None:
        self.sessions = sessions
        self._rollouts = rollouts
        self._rewards = rewards
        self._config = config
        self._chunk = chunk  # users at once
        self._between = between  # raises where the job is to stop
        self._by_history = config.profile_source == "history"

    async def run(self) -> Validated | None:
        """None without validation users."""
        found: list[RankingQuality] = []
        texts: list[str] = []
        terminated: list[bool] = []
        for start in range(0, len(self.sessions), self._chunk):
            await self._between()
            part = self.sessions[start : start + self._chunk]
            profiles, ended = await self._profiles(part, _SEED + start + self._config.seed)
            queries = [self._query(text, session) for text, session in zip(profiles, part, strict=True)]
            found += await self._rewards.qualities(queries, VALIDATION_CUTOFF)
            texts += profiles
            terminated += ended
        if not found:
            return None
        quality = RankingQuality(
            ndcg=fmean(each.ndcg for each in found),
            recall=fmean(each.recall for each in found),
            mrr=fmean(each.mrr for each in found),
        )
        readability = Readability.of(texts, terminated) if terminated else None
        return Validated(quality, [each.ndcg for each in found], readability)

    async def _profiles(self, sessions: Sequence[Session], seed: int) -> tuple[list[str], list[bool]]:
        """A text per session, and of each profile whether the model ended it; histories stand for themselves."""
        if self._by_history:
            return [""] * len(sessions), []
        histories = [session.history for session in sessions]
        groups = await self._rollouts.sample(histories, samples=1, max_new_tokens=self._config.rlso.max_new_tokens, seed=seed)
        profiles = [group.rollouts[0] for group in groups]
        return [profile.text for profile in profiles], [profile.finish_reason == "stop" for profile in profiles]

    def _query(self, profile: str, session: Session) -> RankQuery:
        known = tuple(entry.item.item_id for entry in session.history)
        return RankQuery(profile, session.target_item_ids, known, session.history if self._by_history else ())


class KeptMeasurement:
    """A measurement in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def write(self, measurement: Measurement) -> None:
        """Replace it. Raises FailedPrecondition when the disk is full."""
        with writing("the scores of the validation", self._file.parent):
            await asyncio.to_thread(self._write, json.dumps(asdict(measurement)))

    def read(self) -> Measurement | None:
        """None where none was written, or a crash tore it."""
        try:
            stored = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        readability = stored.pop("readability")
        return Measurement(**stored, readability=Readability(**readability) if readability else None)

    def _write(self, content: str) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        partial = self._file.with_suffix(".partial")
        partial.write_text(content)
        partial.replace(self._file)
