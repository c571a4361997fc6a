"""The figures of Tables 5 to 8 against numbers derived by hand."""

from __future__ import annotations

import pytest

from experiments.study.analysis import (
    Response,
    accuracy,
    breakdown,
    by_type,
    mcnemar,
    mean_seconds,
    reading,
)
from tests.unit.experiments.study.world import KINDS, small_kit


def answered(kind: str, marks: str, respondent: str = "r") -> list[Response]:
    """One response a user: + right, - wrong, . none."""
    right = {"+": True, "-": False, ".": None}
    return [Response(respondent, f"u{at}", kind, right[mark]) for at, mark in enumerate(marks)]


def test_accuracy_and_its_wilson_interval() -> None:
    """8 of 10 with z = 1.95996: centre (.8 + z^2/20) / (1 + z^2/10) = .99207/1.38415 = .71674;
    half width z sqrt(.16/10 + z^2/400) / 1.38415 = 1.95996 x .16001 / 1.38415 = .22658. What is not answered does not count."""
    found = accuracy(answered("langptune", "++++++++--.."))
    assert (found.right, found.answered, found.refused, found.share) == (8, 10, 2, 0.8)
    assert found.low == pytest.approx(0.71674 - 0.22658, abs=1e-4)
    assert found.high == pytest.approx(0.71674 + 0.22658, abs=1e-4)


def test_nothing_answered_says_nothing() -> None:
    found = accuracy(answered("langptune", "..."))
    assert (found.answered, found.refused, found.low, found.high) == (0, 3, 0.0, 1.0)


def test_mcnemar_counts_users_that_are_right_under_one_type_alone() -> None:
    """Right under a alone: user 0; under b alone: seven. P(at most 1 of 8 | 1/2) = (1 + 8) / 256, twice that for two sides.

    The last user did not answer b. c is never right: 4 to 0 and 9 to 0, p = 2 / 16 and 2 / 512. Holm: 2 / 512 x 3 is the first.
    """
    responses = [*answered("a", "+------++-+"), *answered("b", "-+++++++++."), *answered("c", "-----------")]
    first, *others = mcnemar(responses, ["a", "b", "c"])
    assert (first.first, first.second, first.users, first.first_only, first.second_only) == ("a", "b", 10, 1, 7)
    assert first.p_value == pytest.approx(2 * (1 + 8) / 256)
    assert [(test.users, test.first_only, test.second_only) for test in others] == [(11, 4, 0), (10, 9, 0)]
    assert others[1].p_adjusted == pytest.approx(3 * 2 / 512)
    assert first.p_adjusted == pytest.approx(2 * first.p_value)


def test_mcnemar_of_equal_answers_is_one() -> None:
    (test,) = mcnemar([*answered("a", "+-+"), *answered("b", "+-+")], ["a", "b"])
    assert (test.users, test.p_value, test.p_adjusted) == (3, 1.0, 1.0)


def test_reading_time_leaves_outliers_out() -> None:
    """Twenty times 10 s and once 1,000 s: mean 57, deviation 216; 1,000 is 4.4 deviations away."""
    assert mean_seconds([10.0] * 20 + [1_000.0]) == 10.0
    assert mean_seconds([10.0, 20.0]) == 15.0
    assert mean_seconds([]) is None


def test_lengths_are_of_the_texts_that_were_read() -> None:
    kit = small_kit(18)
    rows = reading(kit, [Response("r", "u0", "langptune", True, 7.0)])
    assert list(rows) == ["answer options", *KINDS]
    assert rows["langptune"].words == 4  # "langptune profile of u3"
    assert rows["langptune"].characters == pytest.approx((10 * 23 + 8 * 24) / 18)
    assert (rows["langptune"].seconds, rows["langptune-0"].seconds) == (7.0, None)


def test_groups_by_what_respondents_say_of_themselves() -> None:
    well, badly = {"english": "Well"}, {"english": "Not well"}
    responses = [
        Response("p1", "u0", "langptune", True, 5.0, well),
        Response("p2", "u1", "langptune", False, 1.0, badly),
        Response("p2", "u2", "noprofile-0", True, 3.0, badly),
    ]
    groups = breakdown(responses, "english", KINDS)
    assert [(group.answer, group.respondents) for group in groups] == [("Well", 1), ("Not well", 1), ("(all)", 2)]
    assert groups[1].accuracy["langptune"].share == 0.0
    assert groups[2].accuracy == by_type(responses, KINDS)
    assert groups[2].seconds == {"noprofile-0": 3.0, "langptune-0": None, "langptune": 3.0}
