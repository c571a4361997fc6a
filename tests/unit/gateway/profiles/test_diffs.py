"""Diffs of profiles, word by word."""

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.profiles.diffs import DiffKind, DiffPart, diff

WORDS = st.lists(st.sampled_from(["a", "b", "c ", " ", "\n", "likes", "é"]), max_size=30).map("".join)


def test_one_word_for_another() -> None:
    """The shortest way from one text to the other keeps the words around the change."""
    assert set(diff("The user likes trains.", "The user likes boats.")) == {
        DiffPart(DiffKind.KEPT, "The user likes "),
        DiffPart(DiffKind.REMOVED, "trains."),
        DiffPart(DiffKind.ADDED, "boats."),
    }


@given(WORDS, WORDS)
def test_the_parts_put_together_are_the_two_texts(before: str, after: str) -> None:
    parts = diff(before, after)
    assert "".join(part.text for part in parts if part.kind is not DiffKind.ADDED) == before
    assert "".join(part.text for part in parts if part.kind is not DiffKind.REMOVED) == after


@given(WORDS)
def test_a_text_does_not_differ_from_itself(text: str) -> None:
    assert diff(text, text) == ([DiffPart(DiffKind.KEPT, text)] if text else [])
