"""The words of the sample world: what a film can be about, and how that is said.

Every attribute is one lower-case word that means nothing else anywhere in the world (no title, hero or filler uses it), so
a text can be read back by looking for the words. That is also what makes copying learnable for a model of 0.4M parameters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

KINDS: dict[str, tuple[str, ...]] = {
    "genre": ("western", "horror", "romance", "comedy", "fantasy", "crime", "mystery", "war", "musical", "spy"),
    "theme": (
        "revenge", "friendship", "betrayal", "grief", "ambition", "loyalty", "forgiveness", "jealousy",
        "justice", "survival", "freedom", "greed", "courage", "exile", "faith", "rivalry",
    ),
    "setting": (
        "desert", "harbour", "castle", "city", "village", "forest", "island", "mountain", "prison", "school", "jungle", "circus",
    ),
    "tone": ("gritty", "playful", "dreamy", "tense", "gentle", "bleak", "witty", "eerie"),
}  # fmt: skip
NOUNS = {
    "genre": ("film", "films"),
    "theme": ("story", "stories"),
    "setting": ("setting", "settings"),
    "tone": ("mood", "moods"),
}
KIND_OF = {word: kind for kind, words in KINDS.items() for word in words}
ATTRIBUTES: tuple[str, ...] = tuple(KIND_OF)

TITLE_FIRST = (
    "Silver", "Crimson", "Broken", "Hidden", "Golden", "Silent", "Burning", "Frozen", "Hollow", "Distant", "Velvet", "Iron",
    "Pale", "Wandering", "Secret", "Painted", "Restless", "Copper", "Scarlet", "Lonely", "Borrowed", "Crooked", "Sleeping",
    "Amber", "Stolen", "Winter", "Summer", "Midnight", "Morning", "Forgotten", "Narrow", "Glass", "Paper", "Salt", "Thirteen",
    "Bitter", "Bright", "Faded", "Second", "Last", "First", "Seven", "Quiet", "Wild", "Tall", "Blue", "Green", "Black",
)  # fmt: skip
TITLE_SECOND = (
    "Lantern", "River", "Crown", "Mirror", "Garden", "Letter", "Compass", "Bridge", "Window", "Shadow", "Train", "Violin",
    "Key", "Tower", "Orchard", "Feather", "Clock", "Road", "Signal", "Door", "Anchor", "Ladder", "Candle", "Map", "Horse",
    "Ribbon", "Stone", "Hour", "Wolf", "Sparrow", "Engine", "Bell", "Coat", "Harvest", "Storm", "Chapel", "Thread", "Market",
    "Hammer", "Ship", "Dancer", "Stranger", "Daughter", "Brother", "Witness", "Pilot", "Gambler", "Keeper",
)  # fmt: skip
HEROES = ("sailor", "widow", "painter", "doctor", "teacher", "orphan", "thief", "farmer", "singer", "judge", "soldier", "twin")
PRICES = (3.99, 5.99, 7.99, 9.99, 12.99, 14.99, 19.99)

PRAISE = ("Loved", "Adored", "Enjoyed", "Liked")
BLAME = ("Hated", "Disliked", "Loathed", "Regretted")

_WORD = re.compile(r"[a-z]+")


def attributes_in(text: str) -> list[str]:
    """The attribute words of `text` in order of appearance, repeats included."""
    return [word for word in _WORD.findall(text.lower()) if word in KIND_OF]


def singular(word: str) -> str:
    """`revenge` -> `revenge story`."""
    return f"{word} {NOUNS[KIND_OF[word]][0]}"


def plural(word: str) -> str:
    """`revenge` -> `revenge stories`."""
    return f"{word} {NOUNS[KIND_OF[word]][1]}"


def listing(phrases: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
