"""Marks on sentences: what counts as the same sentence, what is taken out, what stays when a profile is written again."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langptune.text import sentences
from services.gateway.profiles.marks import MARK, Mark, Marks, mark_field, without

TEXT = "The user likes trains. They dislike planes!\n- Slow films.\n- Long walks"


def test_sentences_are_lines_and_what_full_stops_part() -> None:
    assert sentences(TEXT) == ["The user likes trains.", "They dislike planes!", "- Slow films.", "- Long walks"]
    assert sentences("Set in the 1990s, e.g. by train. 3 stars? “Yes.” No…") == [
        "Set in the 1990s, e.g. by train.",
        "3 stars?",
        "“Yes.”",
        "No…",
    ]
    assert sentences(" \n ") == []


@given(st.text(alphabet="ab .!?\n\t-“”", max_size=60))
def test_sentences_and_white_space_are_the_whole_text(text: str) -> None:
    """Taking the sentences out of the text, one after the other, leaves nothing but white space."""
    left, start = "", 0
    for sentence in sentences(text):
        at = text.index(sentence, start)
        left, start = left + text[start:at], at + len(sentence)
    assert not (left + text[start:]).strip()


@pytest.mark.parametrize(
    ("sentence", "left"),
    [
        ("The user likes trains.", "They dislike planes!\n- Slow films.\n- Long walks"),
        ("they dislike  PLANES", "The user likes trains.\n- Slow films.\n- Long walks"),
        ("Long walks", "The user likes trains. They dislike planes!\n- Slow films."),
        ("The user likes", None),
        ("", None),
    ],
)
def test_a_sentence_is_taken_out_and_the_lines_stay(sentence: str, left: str | None) -> None:
    assert without(TEXT, sentence) == left


def test_one_sentence_between_two_leaves_one_space() -> None:
    assert without("One. Two. Three.", "Two.") == "One. Three."
    assert without("One.", "one") == ""


def test_marks_are_heeded_in_what_is_written_next() -> None:
    marks = Marks(pinned=("I live on a boat.",), not_true=("They dislike planes.",))
    assert marks.heeded("The user likes trains. They dislike planes! I live on a boat.") == (
        "I live on a boat. The user likes trains."
    )
    assert Marks(not_true=("All.",)).heeded("All.") == ""
    assert Marks().heeded(TEXT) == TEXT


def test_marks_are_loaded_by_kind_and_in_order() -> None:
    said = [("B.", Mark.PINNED), ("a.", Mark.NOT_TRUE), ("A.", Mark.PINNED)]
    stored = {mark_field(sentence): json.dumps({"sentence": sentence, "mark": mark}) for sentence, mark in said}
    assert len(stored) == 2, "A. and a. are the same sentence: the later mark holds"
    assert Marks.loaded(stored) == Marks(pinned=("A.", "B."))
    assert all(field.startswith(MARK) for field in stored)
