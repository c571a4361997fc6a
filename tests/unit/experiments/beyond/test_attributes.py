"""What items can be about, on the sample world and on a data set of categories."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.beyond.attributes import Attributes
from langptune.data.dataset import Dataset, SessionRow, write_dataset
from langptune.domain import Interaction, Item
from langptune.errors import FailedPrecondition
from samples.dataset import make_dataset
from samples.world import attributes_of


def shop(folder: Path, categories: list[tuple[str, ...]]) -> Dataset:
    items = [Item(f"i{at}", f"T{at}", categories=names) for at, names in enumerate(categories)]
    entries = [("u", Interaction(items[0], 5.0))]
    return write_dataset(
        folder, name="shop", items=items, interactions=entries, sessions=[SessionRow("u", "test", (0,), ("i1",))], made_by={}
    )


def test_the_sample_worlds_are_its_words(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "world", items=150, users=20, seed=1)
    found = Attributes.of(dataset)
    for row, item in zip(found.has, dataset.items.values(), strict=True):
        stated = {phrase.split()[0] for phrase, has in zip(found.phrases, row, strict=True) if has}
        assert stated == attributes_of(item)
    assert {found.phrases[at] for at in found.mentioned("They like Revenge stories and spy films.")} == {
        "revenge stories",
        "spy films",
    }


def test_elsewhere_they_are_categories_neither_rare_nor_of_nearly_all(tmp_path: Path) -> None:
    """20 items: "All" is everywhere, "Rare" on four, a to d on five each."""
    names = [("All", "abcd"[at % 4], *(("Rare",) if at < 4 else ())) for at in range(20)]
    found = Attributes.of(shop(tmp_path / "shop", names))
    assert found.phrases == ("a", "b", "c", "d")
    assert found.has.sum(axis=0).tolist() == [5, 5, 5, 5]
    assert found.compound() == []


def test_too_few_categories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="0 categories"):
        Attributes.of(shop(tmp_path / "shop", [("All",)] * 10))
