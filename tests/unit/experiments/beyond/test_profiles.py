"""Faithfulness and readability against counts made by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from experiments.beyond.attributes import Attributes
from experiments.beyond.profiles import flesch, supported, syllables
from langptune.domain import Interaction, Item, Session


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("cat", 1),
        ("movie", 2),
        ("story", 2),
        ("take", 1),
        ("the", 1),
        ("table", 2),
        ("while", 1),
        ("free", 1),
        ("beautiful", 3),
        ("revenge", 2),
        ("suspenseful", 4),  # it has three: a rule of thumb
        ("hmm", 1),
    ],
)
def test_syllables(word: str, count: int) -> None:
    assert syllables(word) == count


def test_flesch_by_hand() -> None:
    """Two sentences, 6 words, 1 + 1 + 1 and 1 + 1 + 2 = 7 syllables: 206.835 - 1.015 x 3 - 84.6 x 7/6."""
    assert flesch("The cat sat. The dog waited.") == pytest.approx(206.835 - 3.045 - 84.6 * 7 / 6)
    assert flesch("123 ...") is None


def test_claims_are_counted_once_and_held_against_the_history() -> None:
    """Item 0 has revenge, item 1 has desert; the history is item 0. Claims: revenge (twice said), desert, not "revenges"."""
    words = ("revenge", "desert", "circus")
    patterns = tuple(re.compile(rf"\b{word}\b", re.IGNORECASE) for word in words)
    attributes = Attributes(words, patterns, np.array([[1, 0, 0], [0, 1, 0]], dtype=bool))
    session = Session("u", (Interaction(Item("a", "A"), 4.0),), ("b",))
    positions = {"a": 0, "b": 1}
    assert supported("Revenge, revenge, and a desert.", session, attributes, positions) == (1, 2)
    assert supported("Only revenges.", session, attributes, positions) == (0, 0)
