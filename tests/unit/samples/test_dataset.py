"""The sample world as a prepared data set: reproducible, split by user, quick to make."""

from __future__ import annotations

from pathlib import Path

import pytest

from langptune.data.dataset import SPLITS, Dataset
from langptune.errors import InvalidArgument
from samples.dataset import MODEL_SEEDS, make_dataset, world_sessions
from samples.world import make_catalogue


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("world"), items=200, users=100, seed=1)


def test_the_content_depends_on_the_settings_and_the_seed_alone(dataset: Dataset, tmp_path: Path) -> None:
    assert make_dataset(tmp_path / "same", items=200, users=100, seed=1).content_hash == dataset.content_hash
    assert make_dataset(tmp_path / "other", items=200, users=100, seed=2).content_hash != dataset.content_hash


def test_splits_share_no_user_and_have_their_sizes(dataset: Dataset) -> None:
    users = {split: [session.user_id for session in dataset.sessions(split)] for split in SPLITS}
    assert {split: len(names) for split, names in users.items()} == {"train": 60, "validation": 10, "test": 30}
    assert len({name for names in users.values() for name in names}) == 100


def test_what_is_read_back_is_what_was_made(dataset: Dataset) -> None:
    made = world_sessions(make_catalogue(200, 1), 100, 1)
    assert [session for split in SPLITS for session in dataset.sessions(split)] == made
    assert dataset.info["seed"] == 1
    assert dataset.domain == "movies and TV shows"


@pytest.mark.parametrize(
    ("field", "settings"),
    [("users", {"users": 9}), ("seed", {"seed": -1}), ("seed", {"seed": MODEL_SEEDS}), ("items", {"items": 0})],
)
def test_bad_settings_name_the_field_and_write_nothing(field: str, settings: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as error:
        make_dataset(tmp_path / "bad", **settings)
    assert error.value.field == field
    assert not (tmp_path / "bad").exists()
