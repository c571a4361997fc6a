"""The grammar of profiles, and the teacher that writes the supervised examples.

The teacher is a noisy, generic summariser: some attributes of what was seen whatever the user thought of it, some that a
review praised, some that a review blamed, and filler. What it says is true and never repeated, but it does not know what
helps a ranking; that is left to RLSO. `parse` reads any text back by the same grammar.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from langptune.domain import Interaction
from samples.lexicon import BLAME, PRAISE, attributes_in, listing, plural
from samples.world import attributes_of

Stance = Literal["seen", "likes", "dislikes"]
OPENINGS: dict[Stance, tuple[str, ...]] = {
    "seen": ("Recent picks feature", "The history covers", "So far there were", "The list includes"),
    "likes": ("The user enjoys", "This viewer loves", "They like", "The viewer prefers"),
    "dislikes": ("The user dislikes", "This viewer avoids", "They reject", "The viewer skips"),
}
FILLERS = (
    "They watch at a steady pace.",
    "The reviews are short and clear.",
    "They rate every title.",
    "The taste is varied.",
    "New titles are welcome.",
)
INCLUDED: dict[Stance, float] = {"seen": 0.8, "likes": 0.7, "dislikes": 0.5}  # chance of each sentence
LONGEST: dict[Stance, int] = {"seen": 4, "likes": 2, "dislikes": 2}  # attributes in it, at most
THOROUGH: dict[Stance, int] = {"seen": 6, "likes": 4, "dislikes": 3}  # the same, in profiles of the longer kind
FILLER = 0.5
SLIP = 0.07  # chance that a liked or disliked attribute is any attribute of the history instead

_STANCES = {opening: stance for stance, openings in OPENINGS.items() for opening in openings}
_CLAUSE = re.compile(rf"\b({'|'.join(PRAISE + BLAME)})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence of a profile as read: what it states of which attributes, and whether it is a sentence of the grammar."""

    stance: Stance | None  # None: filler, or nothing that the grammar knows
    attributes: tuple[str, ...]
    grammatical: bool


def opinions(review: str) -> tuple[set[str], set[str]]:
    """(praised, blamed) attributes of one review."""
    praised: set[str] = set()
    blamed: set[str] = set()
    pieces = _CLAUSE.split(review)
    for verb, clause in zip(pieces[1::2], pieces[2::2], strict=True):
        (praised if verb.capitalize() in PRAISE else blamed).update(attributes_in(clause))
    return praised, blamed


@dataclass(frozen=True)
class Evidence:
    """What a history supports."""

    seen: frozenset[str]  # attributes of its films
    praised: frozenset[str]  # attributes that its reviews praise
    blamed: frozenset[str]

    @classmethod
    def of(cls, history: Sequence[Interaction]) -> Evidence:
        spoken = [opinions(entry.review) for entry in history]
        return cls(
            seen=frozenset().union(*(attributes_of(entry.item) for entry in history)),
            praised=frozenset().union(*(praised for praised, _ in spoken)),
            blamed=frozenset().union(*(blamed for _, blamed in spoken)),
        )


def write_profile(
    history: Sequence[Interaction],
    rng: np.random.Generator,
    longest: Mapping[Stance, int] = LONGEST,
    slip: float = SLIP,
) -> str:
    """One supervised example for `history`: one to four sentences that are true of it."""
    evidence = Evidence.of(history)
    sources: dict[Stance, frozenset[str]] = {
        "seen": evidence.seen,
        "likes": evidence.praised,
        "dislikes": evidence.blamed,
    }
    chosen = [stance for stance, chance in INCLUDED.items() if sources[stance] and rng.random() < chance]
    stances: list[Stance] = chosen or ["seen"]
    if rng.random() < 0.3:
        stances = [stances[at] for at in rng.permutation(len(stances))]
    used: set[str] = set()
    sentences = []
    for stance in stances:
        words = _pick(sources[stance], evidence.seen, longest[stance], 0.0 if stance == "seen" else slip, used, rng)
        if words:
            opening = str(rng.choice(OPENINGS[stance]))
            sentences.append(f"{opening} {listing([plural(word) for word in words])}.")
    if rng.random() < FILLER:
        sentences.append(str(rng.choice(FILLERS)))
    return " ".join(sentences)


def _pick(
    source: frozenset[str], seen: frozenset[str], longest: int, slip: float, used: set[str], rng: np.random.Generator
) -> list[str]:
    """1..longest attributes of `source` that are not in `used`, which they join."""
    words: list[str] = []
    for _ in range(rng.integers(1, longest + 1)):
        left = sorted((seen if rng.random() < slip else source) - used)
        if left:
            words.append(str(rng.choice(left)))
            used.add(words[-1])
    return words


def parse(profile: str) -> list[Statement]:
    """The sentences of `profile`, each with what it states; text outside the grammar gives ungrammatical statements."""
    return [_parse_sentence(text.strip()) for text in re.findall(r"[^.]+\.?", profile.strip())]


def _parse_sentence(text: str) -> Statement:
    words = tuple(attributes_in(text))
    for opening, stance in _STANCES.items():
        if text.startswith(opening):
            written = bool(words) and f"{opening} {listing([plural(word) for word in words])}."
            return Statement(stance, words, text == written)
    return Statement(None, words, text in FILLERS)
