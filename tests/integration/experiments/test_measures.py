"""Measures of runs: taken once, in processes where there is much to do, and again when anything that they follow from changes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from experiments.beyond import cache
from experiments.beyond.cache import Measure
from experiments.runner import default_processes
from experiments.runs import Result
from experiments.settings import Preset, Settings


def counted(result: Result) -> dict[str, Any]:
    """Says who took it, and leaves a mark."""
    with (result.folder / "taken").open("a") as file:
        file.write("x")
    return {"run": result.folder.name, "process": os.getpid()}


def run(folder: Path, name: str) -> Result:
    (folder / name).mkdir()
    (folder / name / "config.json").write_text("{}")
    return Result(folder / name)


def times_taken(result: Result) -> int:
    return len((result.folder / "taken").read_text())


def test_in_processes_and_only_once(tmp_path: Path) -> None:
    results = [run(tmp_path, name) for name in ("a", "b")]
    settings = Settings(tmp_path / "out", preset=Preset.FULL)
    measure = Measure("counting", {"users": 3}, counted)
    found = measure.of(results, settings)
    assert {name: one["run"] for name, one in found.items()} == {"a": "a", "b": "b"}
    assert (os.getpid() in {one["process"] for one in found.values()}) == (default_processes() == 1)
    assert measure.of(results, settings) == found
    assert [times_taken(result) for result in results] == [1, 1]


def test_other_options_or_other_code_are_another_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, settings = run(tmp_path, "a"), Settings(tmp_path / "out")
    found = Measure("counting", {"users": 3}, counted).of([result], settings)
    assert found["a"]["process"] == os.getpid()
    Measure("counting", {"users": 4}, counted).of([result], settings)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "changed.py").write_text("")
    monkeypatch.setattr(cache, "_CODE", tmp_path / "code")
    Measure("counting", {"users": 3}, counted).of([result], settings)
    assert times_taken(result) == 3


def test_a_measure_that_breaks_off_keeps_those_that_were_taken(tmp_path: Path) -> None:
    results = [run(tmp_path, name) for name in ("a", "b")]
    settings = Settings(tmp_path / "out")

    def fragile(result: Result) -> dict[str, Any]:
        if result.folder.name == "b":
            raise KeyboardInterrupt
        return counted(result)

    with pytest.raises(KeyboardInterrupt):
        Measure("counting", {}, fragile).of(results, settings)
    assert set(Measure("counting", {}, counted).of(results, settings)) == {"a", "b"}
    assert [times_taken(result) for result in results] == [1, 1]
    assert all(json.loads(path.read_text()) for path in (tmp_path / "out" / "measures").iterdir())
