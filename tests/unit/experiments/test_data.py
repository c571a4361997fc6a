"""What systems may learn from: nothing of a held-out target, smaller shares within larger ones."""

from __future__ import annotations

import pytest

from experiments.data import split_of
from langptune.data.dataset import Dataset
from langptune.errors import FailedPrecondition, InvalidArgument
from samples.dataset import make_dataset
from tests.unit.experiments.worlds import low_rank_world


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "world", items=60, users=100, seed=3)


def test_no_held_out_target_is_given_to_learn_from(dataset: Dataset) -> None:
    """Test sessions have no targets; validation targets are not among what was seen; training targets are."""
    split = split_of(dataset)
    data = split.training
    assert len(split.test) == len(data.test_histories) == 30
    assert all(session.target_item_ids == () for session in data.test_histories)
    for session in (*data.validation, *split.test):
        assert data.seen[session.user_id] == tuple(data.history(session))
    for session in data.train:
        assert data.seen[session.user_id] == tuple(data.sequence(session))
    assert data.matrix.sum() == sum(len(items) for items in data.seen.values())


def test_smaller_shares_are_within_larger_ones(dataset: Dataset) -> None:
    """By user; never empty; another seed gives other users; held-out users are always all there."""
    users = [
        {session.user_id for session in split_of(dataset, train_ratio=ratio).training.train} for ratio in (0.001, 0.1, 0.5, 1)
    ]
    assert [len(each) for each in users] == [1, 6, 30, 60]
    assert users[0] < users[1] < users[2] < users[3]
    other = {session.user_id for session in split_of(dataset, train_ratio=0.5, seed=1).training.train}
    assert other != users[2]
    assert len(split_of(dataset, train_ratio=0.001).training.test_histories) == 30


def test_refusals(dataset: Dataset) -> None:
    """A share outside (0, 1], and a user of whom nothing is known."""
    with pytest.raises(InvalidArgument):
        split_of(dataset, train_ratio=0.0)
    stranger = low_rank_world(0).test[0]
    with pytest.raises(FailedPrecondition, match=stranger.user_id):
        split_of(dataset).training.rows([stranger])
