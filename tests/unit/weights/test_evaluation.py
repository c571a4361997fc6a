"""Readability by hand, and an evaluation that comes back as it was."""

from __future__ import annotations

import pytest

from langptune.weights import Evaluation, Measurement, Readability


def test_readability_by_hand() -> None:
    """Six words: the pairs (I like) (like trains,) (trains, I) (I like) (like trains.), 4 of 5 distinct. And four words,
    of which "zxq" has no vowel and "@@##" no letters, no pair repeated.
    """
    found = Readability.of(["I like trains, I like trains.", "zxq 1970s @@## rain"], [True, False])
    assert found.terminated == 0.5
    assert found.words == 5.0
    assert found.distinct_2 == pytest.approx((4 / 5 + 1) / 2)
    assert found.wordlike == pytest.approx((1.0 + 2 / 4) / 2)


@pytest.mark.parametrize(
    ("text", "wordlike"),
    [
        ("", 0.0),
        ("The user's well-made sci-fi, 4.5 stars!", 1.0),
        ("\x00\x01 ïîö 的 的", 0.0),
        ("kkkkkkk bcdfg aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0.0),
        ("- good : **bold**", 1.0),
    ],
)
def test_what_looks_like_words(text: str, wordlike: float) -> None:
    assert Readability.of([text], [True]).wordlike == pytest.approx(wordlike)


def test_an_evaluation_comes_back() -> None:
    readability = Readability(0.5, 12.0, 0.75, 1.0)
    evaluation = Evaluation("data", 20, ["a", "b"], Measurement("r1", [0.1, 0.2], readability), Measurement("", [0.3, 0.4]))
    assert Evaluation.from_json(evaluation.to_json()) == evaluation
