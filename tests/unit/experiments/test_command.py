"""The command line and the results page, without running anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments.command import COMMANDS
from experiments.page import PAGE, filled, write_page
from experiments.tables import EXPERIMENTS
from langptune.cli.app import app
from langptune.errors import FailedPrecondition, InvalidArgument


def test_every_experiment_has_its_command() -> None:
    """Titles stand twice, so that --help is quick: held together here."""
    assert list(COMMANDS) == list(EXPERIMENTS)
    help_text = CliRunner().invoke(app, ["experiment", "--help"], env={"COLUMNS": "200"}).output
    for name, title in COMMANDS.items():
        assert name in help_text
        assert title in help_text


@pytest.mark.parametrize(("option", "value"), [("--preset", "huge"), ("--hyperparameters", "guessed")])
def test_words_that_are_none(option: str, value: str, tmp_path: Path) -> None:
    """Named, with the words that there are."""
    result = CliRunner().invoke(app, ["experiment", "table3", option, value, "--out", str(tmp_path)])
    assert isinstance(result.exception, InvalidArgument)
    assert option in result.exception.message


def test_table_1_counts_the_sample_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick: 300 users, 60 % train, 10 % validation, 30 % test; each has 4 films and a target; 120 films."""
    words = ["experiment", "table1", "--preset", "quick", "--seeds", "1", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["langptune", *words])
    result = CliRunner().invoke(app, words)
    assert result.exception is None, result.output
    table = (tmp_path / "table1" / "table.md").read_text()
    assert "| sample-world-1 | 180 / 30 / 90 | 120 | 1,500 |" in table
    assert f"`langptune experiment table1 --preset quick --seeds 1 --out {tmp_path}`" in table


def test_the_page_keeps_its_prose(tmp_path: Path) -> None:
    """Only the named block changes; an experiment without a block is an error; the page of the package has all blocks."""
    (tmp_path / "table2").mkdir()
    (tmp_path / "table2" / "table.md").write_text("new\n")
    page = "a\n<!-- results: table2 -->\nold\n<!-- end -->\nb\n<!-- results: table3 -->\nkept\n<!-- end -->\n"
    assert filled(page, tmp_path, ["table2"]) == page.replace("old", "new")
    with pytest.raises(FailedPrecondition, match="no block for table2"):
        filled("nothing", tmp_path, ["table2"])
    with pytest.raises(FailedPrecondition, match="holds no table"):
        filled(page, tmp_path, ["table3"])
    (tmp_path / "table2" / "picture.png").write_bytes(b"a picture")
    (tmp_path / "README.md").write_text(page)
    write_page(tmp_path / "README.md", tmp_path, ["table2"])
    shown = "new\n\n![table2](pictures/table2.png)\n"
    assert (tmp_path / "README.md").read_text() == page.replace("old\n", shown)
    assert (tmp_path / "pictures" / "table2.png").read_bytes() == b"a picture"
    for name in EXPERIMENTS:
        assert f"<!-- results: {name} -->\n" in PAGE.read_text()
