"""What a job found on its validation users, user by user: the release that it started from, and the candidate that it made.

Kept with the candidate, so that the gate can test it against whatever is live when somebody wants to publish it. Readability is
of the text alone: nothing here knows what the profiles are about.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

_WORD = re.compile(r"[A-Za-z]{1,20}(?:['’-][A-Za-z]{1,20})*")
_EDGES = ".,;:!?\"'()[]{}*_-–—“”‘’`#>"
_VOWELS = frozenset("aeiouyAEIOUY")


@dataclass(frozen=True, slots=True)
class Readability:
    """Means over profiles. Each is defined in docs/metrics.md."""

    terminated: float  # share of profiles that the model ended by itself, 0 to 1
    words: float  # words per profile
    distinct_2: float  # distinct word pairs of a profile over all of its word pairs, 0 to 1
    wordlike: float  # share of a profile's words that look like English words or numbers, 0 to 1

    @classmethod
    def of(cls, texts: Sequence[str], terminated: Sequence[bool]) -> Readability:
        """Of at least one profile, and of each whether the model ended it."""
        split = [text.split() for text in texts]
        return cls(
            terminated=fmean(terminated),
            words=fmean(len(words) for words in split),
            distinct_2=fmean(_distinct_pairs(words) for words in split),
            wordlike=fmean(_wordlike_share(words) for words in split),
        )


@dataclass(frozen=True, slots=True)
class Measurement:
    """One release on the validation users."""

    release_id: str  # "" for the candidate, whose id is not known yet when it is measured
    ndcg: Sequence[float]  # one per user
    readability: Readability | None = None  # None where histories stand for profiles


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`before` is the release that the job started from, `after` the candidate, on the same users with the same seeds."""

    dataset_uri: str
    cutoff: int
    user_ids: Sequence[str]
    before: Measurement
    after: Measurement

    def to_json(self) -> str:
        """The inverse of `from_json`."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, stored: str | bytes) -> Evaluation:
        """From what `to_json` gave."""
        values = json.loads(stored)
        for name in ("before", "after"):
            readability = values[name].pop("readability")
            values[name] = Measurement(**values[name], readability=Readability(**readability) if readability else None)
        return cls(**values)


def _distinct_pairs(words: Sequence[str]) -> float:
    """1.0 for a text without a pair: nothing is repeated."""
    pairs = list(itertools.pairwise(words))
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def _wordlike_share(words: Sequence[str]) -> float:
    """0.0 for a text without words."""
    return fmean(_is_wordlike(word.strip(_EDGES)) for word in words) if words else 0.0


def _is_wordlike(word: str) -> bool:
    """Letters with a vowel among them, perhaps joined by hyphens; a number; or punctuation alone."""
    if not word or word.replace(".", "").replace(",", "").rstrip("s%").isdigit():
        return True
    return bool(_WORD.fullmatch(word)) and not _VOWELS.isdisjoint(word)
