"""Quality figures of hand-written profiles, with the numbers worked out by hand."""

from __future__ import annotations

import pytest

from langptune.domain import Interaction, Item
from samples.lexicon import ATTRIBUTES
from samples.measure import measure_profiles

HISTORY = (
    Interaction(Item("a", "Blue Door", "A gritty western film about revenge and exile in the desert.", ("western",)), 5.0,
                "Loved the revenge story and the gritty mood."),
    Interaction(Item("b", "Red Bell", "A playful tale of faith and greed, set in the city.", ("war",)), 1.0,
                "Hated the city setting but liked the faith story."),
)  # fmt: skip
SEEN = 10  # gritty western revenge exile desert, playful faith greed city war


def test_a_true_profile() -> None:
    """Stated: revenge, faith (liked, both praised), city (disliked, blamed), war (seen): 4 of 4 true; 3 sentences parse."""
    quality = measure_profiles(
        [(HISTORY, "They like revenge stories and faith stories. They reject city settings. So far there were war films.")]
    )
    assert quality.to_dict() == {
        "profiles": 1, "truth": 1.0, "likes_truth": 1.0, "dislikes_truth": 1.0, "repetition": 0.0, "grammar": 1.0,
        "stated": 4.0, "likes_stated": 2.0, "dislikes_stated": 1.0, "words": 17.0,
        "chance": pytest.approx(SEEN / len(ATTRIBUTES)),
    }  # fmt: skip


def test_a_poor_profile() -> None:
    """Stated: revenge, exile, spy, revenge (liked), faith (disliked) = 5.

    True: all but spy = 4/5. Liked and praised: revenge twice of 4 = 1/2. Disliked and blamed: 0 of 1. Repeats: the second
    revenge = 1/5. Sentences: the first parses, the second names no known thing (`nice`), the third has no full stop: 1/3.
    """
    quality = measure_profiles(
        [
            (
                HISTORY,
                "They like revenge stories, exile stories, spy films and revenge stories. It is nice. They reject faith stories",
            )
        ]
    )
    assert quality.truth == pytest.approx(4 / 5)
    assert quality.likes_truth == pytest.approx(1 / 2)
    assert quality.dislikes_truth == 0.0
    assert quality.repetition == pytest.approx(1 / 5)
    assert quality.grammar == pytest.approx(1 / 3)


def test_shares_are_pooled_over_profiles() -> None:
    """One true statement in one profile, three false ones in the other: 1/4, not the mean of 1 and 0."""
    quality = measure_profiles(
        [(HISTORY, "They like revenge stories."), (HISTORY, "They like spy films, island settings and witty moods.")]
    )
    assert quality.truth == pytest.approx(1 / 4)
    assert quality.stated == 2.0


def test_nothing_stated_is_zero_and_no_division_fails() -> None:
    assert measure_profiles([]).truth == 0.0
    silent = measure_profiles([(HISTORY, "")])
    assert (silent.truth, silent.repetition, silent.grammar, silent.words) == (0.0, 0.0, 0.0, 0.0)
