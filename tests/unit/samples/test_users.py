"""The users: their latent taste shows in what they choose, how they rate it and what they write."""

from __future__ import annotations

import numpy as np
import pytest

from langptune.domain import Session
from samples.headroom import measure_headroom
from samples.teacher import opinions
from samples.users import HISTORY_LENGTH, User, make_sessions, make_users
from samples.world import Catalogue, attributes_of, make_catalogue

USERS = 250
SEED = 5


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue(600, SEED)


@pytest.fixture(scope="module")
def users() -> list[User]:
    return make_users(USERS, SEED)


@pytest.fixture(scope="module")
def sessions(catalogue: Catalogue, users: list[User]) -> list[Session]:
    return list(make_sessions(catalogue, users, SEED))


def test_the_same_seed_gives_the_same_sessions(catalogue: Catalogue, users: list[User], sessions: list[Session]) -> None:
    assert list(make_sessions(catalogue, make_users(USERS, SEED), SEED)) == sessions
    assert list(make_sessions(catalogue, users, SEED + 1)) != sessions


def test_a_session_is_five_distinct_films_in_the_order_of_time(sessions: list[Session]) -> None:
    for session in sessions:
        ids = [entry.item.item_id for entry in session.history]
        assert len(ids) == HISTORY_LENGTH
        assert len({*ids, *session.target_item_ids}) == HISTORY_LENGTH + 1
        times = [entry.time_ms for entry in session.history]
        assert times == sorted(times)
        assert len(set(times)) == len(times)


def test_nobody_likes_what_they_dislike(users: list[User]) -> None:
    assert all(not user.likes & user.dislikes and len(user.likes) == len(user.dislikes) == 5 for user in users)


def test_targets_have_what_their_user_likes_and_not_what_others_like(
    catalogue: Catalogue, users: list[User], sessions: list[Session]
) -> None:
    """A film has 5 of 46 attributes and a user likes 5: by chance they share 5*5/46 = 0.54 or so; a target shares over 2."""
    films = {item.item_id: attributes_of(item) for item in catalogue.items}
    targets = [films[session.target_item_ids[0]] for session in sessions]
    own = np.mean([len(target & user.likes) for target, user in zip(targets, users, strict=True)])
    others = np.mean([len(target & user.likes) for target, user in zip(targets, [*users[1:], users[0]], strict=True)])
    assert own > 2.0
    assert others < 0.9


def test_ratings_follow_likes_and_dislikes(users: list[User], sessions: list[Session]) -> None:
    pairs = [(user, entry) for user, session in zip(users, sessions, strict=True) for entry in session.history]
    taste = [
        len(attributes_of(entry.item) & user.likes) - len(attributes_of(entry.item) & user.dislikes) for user, entry in pairs
    ]
    assert np.corrcoef(taste, [entry.rating for _, entry in pairs])[0, 1] > 0.8
    assert {entry.rating for _, entry in pairs} <= {1.0, 2.0, 3.0, 4.0, 5.0}


def test_reviews_praise_only_what_is_liked_and_blame_only_what_is_disliked(users: list[User], sessions: list[Session]) -> None:
    for user, session in zip(users, sessions, strict=True):
        for entry in session.history:
            praised, blamed = opinions(entry.review)
            film = attributes_of(entry.item)
            assert praised <= user.likes & film
            assert blamed <= user.dislikes & film
            assert bool(praised) == bool(user.likes & film)
            assert bool(blamed) == bool(user.dislikes & film)


def test_there_is_room_to_learn_and_a_signal_to_learn_from(
    catalogue: Catalogue, users: list[User], sessions: list[Session]
) -> None:
    room = measure_headroom(catalogue, users, sessions)
    assert room.random < room.teacher < room.praised < room.perfect
    assert room.praised > 2 * room.teacher
    assert room.correlation > 0.22
