"""The demo's edit and its picture."""

from __future__ import annotations

from pathlib import Path

from langptune.demo.editing import edit_of
from langptune.demo.showing import draw_rewards, moving_average, sparkline


def test_the_first_liking_is_replaced_by_another_of_its_kind() -> None:
    edit = edit_of("The list includes horror films. They like western films and revenge stories. They rate every title.")
    assert edit is not None
    assert edit.removed == "western"
    assert edit.added == "romance"  # the first genre that the profile does not speak of; horror it does
    assert edit.text == "The list includes horror films. The user enjoys romance films. They rate every title."


def test_a_profile_without_a_liking_is_left_alone() -> None:
    assert edit_of("The list includes horror films. They reject western films.") is None


def test_moving_average_and_sparkline() -> None:
    assert moving_average([0.0, 1.0, 2.0]) == [0.0, 0.5, 1.0]
    assert sparkline([0.0, 1.0, 2.0]) == "▁▄█"
    assert sparkline([]) == ""
    assert sparkline([3.0]) == "▁"


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    draw_rewards(tmp_path / "curve.png", [(1, 0.1), (2, 0.2)])
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
