"""`langptune data prepare` as its user meets it."""

import json
from pathlib import Path

from typer.testing import CliRunner

from langptune.data.command import app
from langptune.data.dataset import Dataset
from langptune.data.funnel import EmptyResult
from langptune.errors import NotFound
from tests.unit.data.raw_files import write_world

LOOSE = ["--history-length", "2", "--min-interactions", "1", "--held-out", "0"]


def arguments(folder: Path, reviews: Path, metadata: Path, *more: str) -> list[str]:
    return ["prepare", "--reviews", str(reviews), "--metadata", str(metadata), "--out", str(folder / "out"), *more]


def test_help_has_an_example() -> None:
    result = CliRunner().invoke(app, ["prepare", "--help"])
    assert result.exit_code == 0
    assert "Example: langptune data prepare --reviews" in result.stdout


def test_the_funnel_is_printed(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, arguments(tmp_path, *write_world(tmp_path, {"a": "ABC"}), *LOOSE))
    assert result.exit_code == 0
    assert "k-core again" in result.stdout
    assert "Sessions: 1 train, 0 validation, 0 test." in result.stdout


def test_json_is_one_object_for_programs(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, arguments(tmp_path, *write_world(tmp_path, {"a": "ABC"}), *LOOSE, "--json"))
    report = json.loads(result.stdout)
    assert report["sessions"] == {"train": 1, "validation": 0, "test": 0}
    assert report["funnel"][0]["interactions"] == 3
    assert report["content_hash"] == Dataset.open(tmp_path / "out").content_hash
    assert report["peak_memory_mib"] > 0


def test_an_empty_result_still_shows_the_funnel(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, arguments(tmp_path, *write_world(tmp_path, {"a": "ABC"})))
    assert isinstance(result.exception, EmptyResult)
    assert "k-core" in result.stdout
    result = CliRunner().invoke(app, arguments(tmp_path, *write_world(tmp_path, {"a": "ABC"}), "--json"))
    assert json.loads(result.stdout)["funnel"][-1]["step"] == "k-core"


def test_a_missing_file_is_a_typed_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, arguments(tmp_path, tmp_path / "none", tmp_path / "none"))
    assert isinstance(result.exception, NotFound)
