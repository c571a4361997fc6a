"""Profiles as texts: are their claims true of the history (faithfulness), can they be read (readability)?

A claim is the mention of an attribute (`attributes`), once a profile; it is supported if an item of the history has it. On the
sample world claims of liking and disliking are read as well, and held against what the reviews praise and blame.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from experiments.beyond.attributes import SAMPLE_GENERATOR, Attributes
from experiments.beyond.reopen import Reopened, Text
from experiments.runs import Result
from langptune.domain import Session
from langptune.text import sentences
from langptune.weights.evaluation import Readability
from samples.measure import measure_profiles

_WORD = re.compile(r"[a-z]+(?:['’][a-z]+)?")
_VOWELS = re.compile(r"[aeiouy]+")
_SILENT = re.compile(r"(?:[^aeiouyl]|[aeiouy]l)e$")  # take, while; not table, movie, free


def syllables(word: str) -> int:
    """Groups of vowels, less a silent final e; at least one. Right for most English words, a rule of thumb for the rest."""
    return max(1, len(_VOWELS.findall(word)) - bool(_SILENT.search(word)))


def flesch(text: str) -> float | None:
    """Flesch reading ease (1948): 206.835 - 1.015 words per sentence - 84.6 syllables per word; None without a word.

    90 and above is very easy, 60 to 70 plain English, below 30 very difficult.
    """
    words = _WORD.findall(text.lower())
    if not words:
        return None
    length = len(words) / max(1, len(sentences(text)))
    return 206.835 - 1.015 * length - 84.6 * fmean(map(syllables, words))


def supported(text: str, session: Session, attributes: Attributes, positions: dict[str, int]) -> tuple[int, int]:
    """(claims that the history supports, claims)."""
    claims = attributes.mentioned(text)
    rows = [positions[entry.item.item_id] for entry in session.history]
    return sum(bool(attributes.has[rows, claim].any()) for claim in claims), len(claims)


def measure(result: Result) -> dict[str, Any]:
    """The first text of every test user: a row each of (supported, claims, flesch), and figures over all."""
    run = Reopened(result)
    attributes = Attributes.of(run.dataset)
    pairs = list(zip(run.sessions, run.texts, strict=True))
    rows = [_row(session, text, attributes, run) for session, text in pairs]
    has = attributes.has
    seen = [has[[run.positions[entry.item.item_id] for entry in session.history]].any(axis=0).mean() for session in run.sessions]
    return {
        "rows": rows,
        "chance": float(fmean(seen)),
        "readability": asdict(Readability.of([text.text for text in run.texts], [text.finished for text in run.texts])),
        "polarity": _polarity(pairs) if run.dataset.info.get("generator") == SAMPLE_GENERATOR else None,
    }


def _row(session: Session, text: Text, attributes: Attributes, run: Reopened) -> dict[str, Any]:
    right, claims = supported(text.text, session, attributes, run.positions)
    return {"user": session.user_id, "supported": right, "claims": claims, "flesch": flesch(text.text)}


def _polarity(pairs: Sequence[tuple[Session, Text]]) -> dict[str, float] | None:
    """Share of the stated likes (dislikes) that a review praises (blames), and the grammar's; None where nothing is stated."""
    found = measure_profiles([(session.history, text.text) for session, text in pairs])
    if not found.likes_stated and not found.dislikes_stated:
        return None
    return {"likes": found.likes_truth, "dislikes": found.dislikes_truth, "grammar": found.grammar}
