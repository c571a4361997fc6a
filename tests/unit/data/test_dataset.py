"""The storage contract: what goes in comes out, and a folder is a data set only when it is complete."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from langptune.data.dataset import ITEM_SCHEMA, Dataset, SessionRow, item_from_row, write_dataset
from langptune.domain import Interaction, Item, Session
from langptune.errors import FailedPrecondition, InvalidArgument

FULL = Item("1", "One", "About one", ("x", "y"), 4.2, 0.0)
BARE = Item("2", "Two")
HISTORY = (Interaction(FULL, 3.5, "fine", 10), Interaction(BARE, 0.0))


def write(folder: Path, *, review: str = "fine") -> Dataset:
    entries = [("u", Interaction(FULL, 3.5, review, 10)), ("u", HISTORY[1])]
    rows = iter([SessionRow("u", "test", (0, 1), ("1",)), SessionRow("u", "train", (), ("1", "2"))])
    return write_dataset(
        folder, name="n", items=iter([FULL, BARE]), interactions=entries, sessions=rows, domain="books", made_by={"seed": 3}
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = write(tmp_path / "a" / "b")
    dataset = Dataset.open(tmp_path / "a" / "b")
    assert dataset.items == {"1": FULL, "2": BARE}
    assert dataset.interactions == [("u", HISTORY[0]), ("u", HISTORY[1])]
    assert dataset.sessions("test") == [Session("u", HISTORY, ("1",), "test")]
    assert dataset.sessions("train") == [Session("u", (), ("1", "2"), "train")]
    assert dataset.sessions("validation") == []
    assert (dataset.name, dataset.domain, dataset.info["seed"]) == ("n", "books", 3)
    assert dataset.info["counts"] == {"items": 2, "interactions": 2, "sessions": 2}
    assert dataset.info == written.info


def test_attributes_are_kept_and_a_table_without_any_has_no_column_for_them(tmp_path: Path) -> None:
    told = Item("3", "Three", attributes={"year": 1979.0, "languages": ("en", "fr"), "animated": False, "studio": "Fox"})
    dataset = write_dataset(tmp_path / "a", name="n", items=[FULL, told], interactions=[], sessions=[], made_by={})
    assert Dataset.open(dataset.folder).items == {"1": FULL, "3": told}
    assert pq.read_schema(write(tmp_path / "b").folder / "items.parquet").names == ITEM_SCHEMA.names


@pytest.mark.parametrize("text", ["[1]", "{", '{"year": {"of": 1}}', '{"a b": 1}'])
def test_attributes_that_no_item_may_have_are_named(text: str) -> None:
    row = {"item_id": "1", "title": "One", "description": "", "categories": [], "average_rating": None, "price": None}
    with pytest.raises(InvalidArgument, match="attributes"):
        item_from_row({**row, "attributes": text})


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    hashes = [write(tmp_path / name, review=review).content_hash for name, review in (("a", "x"), ("b", "x"), ("c", "y"))]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_data_set_without_rows_can_be_written(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, name="n", items=[], interactions=[], sessions=[], made_by={})
    assert (dataset.items, dataset.interactions, dataset.sessions("train")) == ({}, [], [])


def test_a_folder_without_its_description_is_no_data_set(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(FailedPrecondition, match="not a prepared data set"):
        Dataset.open(tmp_path)


def test_an_unknown_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="split: must be one of train, validation, test"):
        write(tmp_path).sessions("dev")
