"""The three splits on worlds small enough to be worked out by hand; h = 2 unless a test says otherwise."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from langptune.data.dataset import SPLITS
from langptune.data.options import PrepareOptions, Split
from langptune.data.prepare import Prepared, prepare
from langptune.errors import InvalidArgument
from tests.unit.data.raw_files import write_world


def prepare_world(
    folder: Path,
    histories: Mapping[str, str],
    *,
    start: Mapping[str, int] | None = None,
    split: Split = Split.FIRST_4,
    **options: Any,
) -> Prepared:
    chosen = PrepareOptions(**{"history_length": 2, "min_interactions": 1, "split": split, **options})
    return prepare(*write_world(folder, histories, start=start), folder / "out", options=chosen)


def sessions(prepared: Prepared) -> dict[str, list[str]]:
    """`user history>target` by split."""
    return {
        split: [
            f"{session.user_id} {''.join(entry.item.item_id for entry in session.history)}>{''.join(session.target_item_ids)}"
            for session in prepared.dataset.sessions(split)
        ]
        for split in SPLITS
    }


def test_first_4_holds_out_the_latest_users_without_cold_items(tmp_path: Path) -> None:
    """Targets' times: a 2, b 12, c 22, d 32, e 42, f 52; half of six are held out: d, e, f.

    The training users have A, B, C, D, so X and Y are cold: e loses X and becomes ABC; f loses X and Y, keeps A and B, has fewer
    than three items and goes.
    """
    histories = {"a": "ABC", "b": "BCA", "c": "CABD", "d": "ABDC", "e": "XABC", "f": "XYAB"}
    start = {"a": 0, "b": 10, "c": 20, "d": 30, "e": 40, "f": 50}
    prepared = prepare_world(tmp_path, histories, start=start, held_out=0.5)
    found = sessions(prepared)
    assert found["train"] == ["a AB>C", "b BC>A", "c CA>B"]
    assert sorted(found["validation"] + found["test"]) == ["d AB>D", "e AB>C"]
    assert len(found["validation"]) == 1
    assert list(prepared.dataset.items) == ["A", "B", "C", "D"]
    row = prepared.funnel[-2]
    assert (row.step, row.users, row.items, row.interactions, row.dropped) == ("split first-4", 5, 4, 17, 5)
    assert row.why == "3 held-out interactions with cold items; 1 held-out users then below 3"


def test_first_4_takes_four_items_by_default(tmp_path: Path) -> None:
    prepared = prepare_world(tmp_path, {"a": "ABCDEFG"}, history_length=4, held_out=0.0)
    assert sessions(prepared)["train"] == ["a ABCD>E"]


def test_a_repeated_item_counts_once_where_it_came_first(tmp_path: Path) -> None:
    """A B A C: the second A is no new item, so the history is A, B and the target C."""
    prepared = prepare_world(tmp_path, {"a": "ABAC"}, held_out=0.0)
    assert sessions(prepared)["train"] == ["a AB>C"]
    repeated = next(row for row in prepared.funnel if row.step == "first review of an item")
    assert (repeated.interactions, repeated.dropped) == (3, 1)


def test_leave_last_out_takes_the_last_item_and_holds_out_by_seed(tmp_path: Path) -> None:
    histories = {f"u{nth}": "ABCD"[nth % 4 :] + "ABCD"[: nth % 4] for nth in range(10)}
    prepared = prepare_world(tmp_path, histories, split=Split.LEAVE_LAST_OUT, held_out=0.4)
    found = sessions(prepared)
    assert [len(found[split]) for split in SPLITS] == [6, 2, 2]
    assert sorted(chain(*found.values())) == sorted(f"{user} {items[1:3]}>{items[3]}" for user, items in histories.items())
    (tmp_path / "other").mkdir()
    other = prepare_world(tmp_path / "other", histories, split=Split.LEAVE_LAST_OUT, held_out=0.4, seed=1)
    assert sessions(other) != found


def test_who_is_held_out_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    histories = {f"u{nth}": "ABC" for nth in range(10)}
    backwards = dict(reversed(histories.items()))
    found = []
    for name, world in (("one", histories), ("two", backwards)):
        (tmp_path / name).mkdir()
        prepared = prepare_world(tmp_path / name, world, split=Split.LEAVE_LAST_OUT)
        found.append({split: sorted(rows) for split, rows in sessions(prepared).items()})
    assert found[0] == found[1]


def test_global_time_trains_before_the_cut_and_tests_after_it(tmp_path: Path) -> None:
    """Times: a 0-3, b and c 2-5; of 12 times in order, the one at position 9 is 4: the cut.

    a's last item before it is D with history B, C: training. b has B, C before and D first after it: held out. c's first item
    after it, X, is cold, so its target is C. b and c have only two items before the cut: no training session.
    """
    histories, start = {"a": "ABCD", "b": "BCDA", "c": "ABXC"}, {"a": 0, "b": 2, "c": 2}
    found = sessions(prepare_world(tmp_path, histories, start=start, split=Split.GLOBAL_TIME, held_out=0.25))
    assert found["train"] == ["a BC>D"]
    assert sorted(found["validation"] + found["test"]) == ["b BC>D", "c AB>C"]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (Split.FIRST_4, ["a AB>C", "a BC>D"]),
        (Split.LEAVE_LAST_OUT, ["a BC>D", "a CD>E"]),
        (Split.GLOBAL_TIME, ["a BC>D", "a CD>E"]),
    ],
)
def test_training_users_may_have_more_windows(tmp_path: Path, split: Split, expected: list[str]) -> None:
    assert sessions(prepare_world(tmp_path, {"a": "ABCDE"}, split=split, held_out=0.0, train_windows=2))["train"] == expected


def test_held_out_users_have_one_window(tmp_path: Path) -> None:
    histories = {f"u{nth}": "ABCDE" for nth in range(4)}
    prepared = prepare_world(tmp_path, histories, split=Split.LEAVE_LAST_OUT, held_out=0.5, train_windows=10**9)
    assert prepared.sessions == {"train": 2 * 3, "validation": 1, "test": 1}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("history_length", 0),
        ("min_interactions", 0),
        ("train_windows", -1),
        ("item_tokens", 0),
        ("prompt_tokens", 0),
        ("held_out", 1.0),
        ("held_out", float("nan")),
        ("over_length", "cut"),
        ("domain", " "),
    ],
)
def test_an_option_out_of_range_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidArgument) as error:
        PrepareOptions(**{field: value})
    assert error.value.field == field
