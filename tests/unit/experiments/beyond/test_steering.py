"""Edits and what they move, against numbers derived by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from experiments.beyond.attributes import Attributes
from experiments.beyond.steering import DIRECTIONS, KINDS, Edit, draw_edits, edited, moved
from samples.lexicon import ATTRIBUTES, plural
from samples.world import attributes_of, make_catalogue


def attributes(words: tuple[str, ...], has: list[list[int]]) -> Attributes:
    patterns = tuple(re.compile(rf"\b{word}\b", re.IGNORECASE) for word in words)
    return Attributes(words, patterns, np.array(has, dtype=bool))


TWO = attributes(("revenge", "desert"), [[1, 0], [0, 1], [1, 1], [0, 0]])


@pytest.mark.parametrize(
    ("direction", "which", "after"),
    [
        ("towards", (0,), "They like revenge. They like spies. Revenge tales bore them. So be it."),
        ("away", (0,), "They dislike revenge. They like spies. So be it."),
        ("away", (0, 1), "They dislike revenge and desert. They like spies. So be it."),
        ("towards", (1, 0), "They like desert and revenge. They like spies. Revenge tales bore them. So be it."),
    ],
)
def test_an_edit_says_one_thing_first_and_an_edit_away_takes_back_the_opposite(
    direction: str, which: tuple[int, ...], after: str
) -> None:
    text = "They like spies. Revenge tales bore them. So be it."
    edit = Edit(0, "common", "towards" if direction == "towards" else "away", which)
    assert edited(text, edit, TWO) == after


def test_what_moved_by_hand() -> None:
    """Four items, the first two with the attribute. Ranks before 3, 4, 1, 2 and after 1, 2, 3, 4: each rises by two of four
    places. The others keep their order. All four are among the first 20 before and after: half of them have it."""
    found = moved(np.array([2.0, 1.0, 4.0, 3.0]), np.array([4.0, 3.0, 2.0, 1.0]), np.array([1, 1, 0, 0], dtype=bool), "towards")
    assert found is not None
    assert (found.shift, found.success, found.top_before, found.top_after) == (0.5, 1.0, 0.5, 0.5)
    assert found.collateral == pytest.approx(0.0, abs=1e-12)


def test_the_same_move_is_a_failure_when_the_other_direction_was_asked() -> None:
    found = moved(np.array([2.0, 1.0, 4.0, 3.0]), np.array([4.0, 3.0, 2.0, 1.0]), np.array([1, 1, 0, 0], dtype=bool), "away")
    assert found is not None
    assert (found.shift, found.success) == (-0.5, 0.0)


def test_others_that_change_places_are_collateral_change() -> None:
    """The three others turn round: Spearman -1, so 2. The item with the attribute stays in its place: no success either way."""
    having = np.array([1, 0, 0, 0], dtype=bool)
    for direction in DIRECTIONS:
        found = moved(np.array([9.0, 3.0, 2.0, 1.0]), np.array([9.0, 1.0, 2.0, 3.0]), having, direction)
        assert found is not None
        assert (found.shift, found.success) == (0.0, 0.0)
        assert found.collateral == pytest.approx(2.0)


def test_the_first_twenty_places_are_the_best_scores() -> None:
    """30 items; the ten with the attribute are last before, first after: 0 of 20 and 10 of 20."""
    having = np.arange(30) >= 20
    before = -np.arange(30.0)
    found = moved(before, -before, having, "towards")
    assert found is not None
    assert (found.top_before, found.top_after) == (0.0, 0.5)


def test_an_attribute_of_all_or_none_says_nothing() -> None:
    scores = np.arange(3.0)
    assert moved(scores, scores, np.zeros(3, dtype=bool), "towards") is None
    assert moved(scores, scores, np.ones(3, dtype=bool), "towards") is None


def test_every_user_gets_the_same_number_of_edits_of_each_kind_both_ways() -> None:
    catalogue = make_catalogue(200, 1)
    own = [attributes_of(item) for item in catalogue.items]
    words = tuple(ATTRIBUTES)
    found = attributes(words, [[word in each for word in words] for each in own])
    edits = draw_edits(found, 5, 2, seed=3)
    assert edits == draw_edits(found, 5, 2, seed=3)
    assert edits != draw_edits(found, 5, 2, seed=4)
    for user in range(5):
        for kind in KINDS:
            own_edits = [edit for edit in edits if (edit.user, edit.kind) == (user, kind)]
            assert [edit.direction for edit in own_edits] == ["towards", "away"] * 2
            assert len({edit.attributes for edit in own_edits}) == 2
    counts = found.has.sum(axis=0)
    common, niche = ({edit.attributes[0] for edit in edits if edit.kind == kind} for kind in ("common", "niche"))
    assert min(counts[list(common)]) >= max(counts[list(niche)])
    for edit in edits:
        if edit.kind == "compound":
            assert found.has[:, list(edit.attributes)].all(axis=1).sum() >= 3


def test_phrases_of_the_sample_world_are_those_of_its_own_grammar() -> None:
    assert plural("revenge") == "revenge stories"
