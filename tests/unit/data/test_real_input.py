"""The real folders, where they are: sizes that their README states, and results that can be read back."""

import os
from pathlib import Path

import pytest

from langptune.data.dataset import Dataset
from langptune.data.funnel import EmptyResult, FunnelRow
from langptune.data.options import PrepareOptions, Split
from langptune.data.prepare import Prepared, prepare

ROOT = Path(os.environ.get("LANGPTUNE_REAL_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


def run(folder: str, out: Path, options: PrepareOptions, names: tuple[str, str] = ("reviews", "meta")) -> Prepared:
    if not (ROOT / folder).is_dir():
        pytest.skip(f"the real data folder {folder} is not here; set LANGPTUNE_REAL_DATA")
    reviews, metadata = (ROOT / folder / f"{name}.jsonl.gz" for name in names)
    return prepare(reviews, metadata, out, options=options)


def step(prepared: Prepared, name: str) -> FunnelRow:
    return next(row for row in prepared.funnel if row.step == name)


@pytest.mark.parametrize(
    ("folder", "read", "core_users", "core_items"),
    [
        ("amazon-gift-cards", (458, 148, 2_972), 453, 147),
        ("movie-critics", (597, 3_075, 31_580), 597, 3_075),
        ("movielens-plots", (610, 5_933, 92_185), 610, 3_255),
    ],
)
def test_sizes(tmp_path: Path, folder: str, read: tuple[int, int, int], core_users: int, core_items: int) -> None:
    prepared = run(folder, tmp_path / "out", PrepareOptions(split=Split.LEAVE_LAST_OUT))
    first, core = step(prepared, "read"), step(prepared, "k-core")
    assert (first.users, first.items, first.interactions) == read
    assert (core.users, core.items) == (core_users, core_items)
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.content_hash == prepared.dataset.content_hash
    test = dataset.sessions("test")
    assert len(test) == prepared.sessions["test"]
    assert all(session.target_item_ids[0] in dataset.items for session in test)


def test_the_raw_sample_has_no_5_core(tmp_path: Path) -> None:
    with pytest.raises(EmptyResult, match="--min-interactions") as error:
        run("amazon-raw-sample", tmp_path / "out", PrepareOptions(), ("All_Beauty", "meta_All_Beauty"))
    sizes = [(row.step, row.users, row.items, row.interactions) for row in error.value.funnel[:2]]
    assert sizes == [("read", 675, 3_208, 3_534), ("item has metadata", 317, 438, 566)]
    assert not (tmp_path / "out").exists()


def test_something_of_the_raw_sample_survives_looser_options(tmp_path: Path) -> None:
    options = PrepareOptions(min_interactions=1, history_length=1)
    prepared = run("amazon-raw-sample", tmp_path / "out", options, ("All_Beauty", "meta_All_Beauty"))
    assert sum(prepared.sessions.values()) > 0
