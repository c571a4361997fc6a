"""The one piece of code that scores every system."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from experiments.data import TrainingData
from experiments.scoring import rank_users, target_ranks
from experiments.systems.base import System
from experiments.systems.simple import MostPopular, Random
from langptune.domain import Interaction, Item, Session
from langptune.errors import Internal
from langptune.ranking import exact_ranks
from tests.unit.experiments.worlds import low_rank_world


class Indifferent(System):
    """Likes everything alike."""

    def fit(self, data: TrainingData) -> None:
        self._items = len(data.items)

    def scores(self, sessions: Sequence[Session]) -> NDArray[np.floating]:
        return np.zeros((len(sessions), 1, self._items))


CATALOGUE = {f"i{at}": Item(f"i{at}", "") for at in range(8)}
DATA = TrainingData(CATALOGUE, (), (), (), "items")
SESSION = Session("u", (Interaction(CATALOGUE["i0"], 5.0), Interaction(CATALOGUE["i1"], 5.0)), ("i5",))


@given(st.permutations(range(8)))
def test_without_ties_ranks_are_those_of_the_decoder(scores: list[int]) -> None:
    """`langptune.ranking.exact_ranks`, whatever the order of ties would be."""
    values = np.array(scores, dtype=float)
    assert target_ranks(values, DATA, SESSION, np.arange(8)) == exact_ranks(values, [5], [0, 1])


def test_ties_stand_in_the_given_order_and_the_history_is_not_counted() -> None:
    """Items 2, 3, 4 and 5 tie; 3 and 4 come before 5 in the order; item 7 is above; 0 and 1 are above, but history."""
    scores = np.array([9.0, 9.0, 1.0, 1.0, 1.0, 1.0, 0.0, 2.0])
    order = np.array([0, 1, 6, 2, 3, 4, 5, 7])
    assert target_ranks(scores, DATA, SESSION, order) == [4]


def test_an_indifferent_system_is_no_better_than_random() -> None:
    """120 users x 20 orders: a mean NDCG@20 within 4 standard errors of the expectation over 145 ranked items.

    Each place has chance 1/145, so E = sum of 1/log2(1+r) for r = 1..20, over 145: 7.0403 / 145 = .0486.
    """
    world = low_rank_world(0)
    gains = np.array([1 / np.log2(1 + place) for place in range(1, 21)])
    for system in (Indifferent(), Random(seed=5, samples=20)):
        system.fit(world.training)
        items = len(world.training.items) - 5
        found = np.concatenate([rank_users(system, world.training, world.test, seed).scores.ndcg for seed in range(20)])
        expected = gains.sum() / items
        assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(len(world.test) * 20) + 0.01
        assert rank_users(system, world.training, world.test, 0).ranks.min() >= 1


def test_most_popular_counts_users_and_knows_held_out_histories() -> None:
    """Three users: i2 is in two histories and one target of the training set, i3 in the history of a test user only."""
    entries = {name: Interaction(item, 5.0) for name, item in CATALOGUE.items()}
    train = (
        Session("a", (entries["i0"], entries["i2"]), ("i4",)),
        Session("b", (entries["i2"],), ("i0",)),
        Session("c", (entries["i6"],), ("i2",)),
    )
    unseen = Session("t", (entries["i3"],), (), "test")
    system = MostPopular()
    system.fit(TrainingData(CATALOGUE, train, (), (unseen,), "items"))
    assert system.scores([unseen])[0, 0].tolist() == [2, 0, 3, 1, 1, 0, 1, 0]


def test_samples_of_a_user_are_averaged() -> None:
    """Ranks 1 and 3: NDCG (1 + 1/2) / 2, recall 1, MRR (1 + 1/3) / 2."""

    class Two(Indifferent):
        def scores(self, sessions: Sequence[Session]) -> NDArray[np.floating]:
            first, second = np.zeros(8), np.zeros(8)
            first[5], second[[2, 3]], second[5] = 1, 2, 1
            return np.broadcast_to(np.stack([first, second]), (len(sessions), 2, 8))

    ranked = rank_users(Two(), DATA, [SESSION], 0)
    assert ranked.ranks.tolist() == [[1, 3]]
    assert [ranked.scores.ndcg[0], ranked.scores.recall[0], ranked.scores.mrr[0]] == pytest.approx([0.75, 1.0, 2 / 3])


def test_scores_that_are_not_finite_are_refused() -> None:
    """Nothing compares above NaN, so a system that has diverged would be perfect."""

    class Diverged(Indifferent):
        def scores(self, sessions: Sequence[Session]) -> NDArray[np.floating]:
            return np.full((len(sessions), 1, 8), np.nan)

    with pytest.raises(Internal, match="not finite"):
        rank_users(Diverged(), DATA, [SESSION], 0)
