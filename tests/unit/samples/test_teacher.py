"""The teacher's profiles are in its own grammar, true and without repeats; the parser reads them back."""

from __future__ import annotations

import numpy as np
import pytest

from langptune.domain import Session
from samples.measure import measure_profiles
from samples.teacher import LONGEST, SLIP, Statement, opinions, parse, write_profile
from samples.users import make_sessions, make_users
from samples.world import make_catalogue


@pytest.fixture(scope="module")
def sessions() -> list[Session]:
    return list(make_sessions(make_catalogue(300, 9), make_users(300, 9), 9))


def test_teacher_profiles_are_true_grammatical_and_free_of_repeats(sessions: list[Session]) -> None:
    rng = np.random.default_rng(0)
    quality = measure_profiles([(session.history, write_profile(session.history, rng)) for session in sessions])
    assert (quality.truth, quality.grammar, quality.repetition) == (1.0, 1.0, 0.0)
    assert quality.likes_truth > 1 - 2 * SLIP
    assert quality.dislikes_truth > 1 - 2.5 * SLIP
    assert quality.chance < 0.4


def test_the_same_generator_writes_the_same_profile(sessions: list[Session]) -> None:
    history = sessions[0].history
    first, again = (write_profile(history, np.random.default_rng(4)) for _ in range(2))
    assert first == again
    assert len({write_profile(history, np.random.default_rng(seed)) for seed in range(20)}) > 10


def test_no_sentence_lists_more_than_its_longest(sessions: list[Session]) -> None:
    rng = np.random.default_rng(1)
    for session in sessions:
        for statement in parse(write_profile(session.history, rng)):
            assert statement.stance is None or 1 <= len(statement.attributes) <= LONGEST[statement.stance]


def test_reviews_are_read_clause_by_clause() -> None:
    assert opinions("Loved the exile story and the desert setting but hated the war film.") == ({"exile", "desert"}, {"war"})
    assert opinions("Regretted the eerie mood.") == (set(), {"eerie"})
    assert opinions("It was fine.") == (set(), set())
    assert opinions("") == (set(), set())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("They like war films.", Statement("likes", ("war",), True)),
        ("They like war films, exile stories and eerie moods.", Statement("likes", ("war", "exile", "eerie"), True)),
        ("They reject desert settings and war films.", Statement("dislikes", ("desert", "war"), True)),
        ("So far there were witty moods.", Statement("seen", ("witty",), True)),
        ("The taste is varied.", Statement(None, (), True)),
        ("They like war stories.", Statement("likes", ("war",), False)),  # a genre is no story
        ("They like films.", Statement("likes", (), False)),
        ("They like war films, exile stories.", Statement("likes", ("war", "exile"), False)),  # no `and`
        ("They like war films", Statement("likes", ("war",), False)),  # no full stop
        ("A war of words.", Statement(None, ("war",), False)),
    ],
)
def test_the_parser_knows_the_grammar(text: str, expected: Statement) -> None:
    assert parse(text) == [expected]


def test_the_parser_takes_any_text() -> None:
    assert parse("") == []
    assert [statement.grammatical for statement in parse("The taste is varied. ... \x00 é")] == [True, False, False]
