"""Results by content hash: what changes a name, what does not, and that a result is there whole or not at all."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from experiments import systems
from experiments.data import TrainingData
from experiments.runner import Clock, run_all
from experiments.runs import Result, RunSpec, execute
from experiments.settings import Hyperparameters, Preset, Settings
from experiments.systems import SYSTEMS, Entry
from experiments.systems.base import System
from experiments.systems.language import config_of
from experiments.tables import EXPERIMENTS, render
from experiments.worlds import written_world
from langptune.domain import Session
from langptune.errors import FailedPrecondition


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    dataset = written_world(tmp_path_factory.mktemp("data"), items=60, users=100, seed=1)
    return RunSpec("most-popular", ({},), str(dataset.folder), dataset.content_hash, 1, "no-model", "no-model", test_users=20)


def test_a_name_follows_from_what_the_result_follows_from(spec: RunSpec) -> None:
    """Seed, data, users, share, hyperparameters; not the place of the data, and models only where the system has them."""
    others = [
        replace(spec, seed=2),
        replace(spec, dataset_hash="other"),
        replace(spec, test_users=19),
        replace(spec, train_ratio=0.5),
        replace(spec, candidates=({"x": 1},)),
        replace(spec, system="random"),
    ]
    assert len({each.name for each in (spec, *others)}) == 7
    assert replace(spec, dataset="/elsewhere", embedder="other").name == spec.name
    language = replace(spec, system="llm2bert4rec")
    assert replace(language, embedder="other").name != language.name == replace(language, encoder="other").name


def test_a_result_is_whole(spec: RunSpec, tmp_path: Path) -> None:
    """Configuration, metrics with intervals, per-user scores, picture; and nothing else is left in the folder of the runs."""
    result = execute(spec, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [spec.name]
    assert {file.name for file in result.folder.iterdir()} == {"config.json", "metrics.json", "users.parquet", "picture.png"}
    ndcg = result.metrics["test"]["ndcg"]
    assert ndcg["low"] <= ndcg["mean"] <= ndcg["high"]
    assert result.scores.ndcg.mean() == pytest.approx(ndcg["mean"])
    assert len(result.scores.user_ids) == result.metrics["users"] == 20
    assert result.config["identity"] == json.loads(json.dumps(spec.identity))


def test_what_is_there_is_not_computed_again(spec: RunSpec, tmp_path: Path) -> None:
    """The second call does not even look at the data."""
    first = execute(spec, tmp_path)
    marked = first.folder / "metrics.json"
    marked.write_text(marked.read_text() + "\n")
    again = execute(replace(spec, dataset="/gone"), tmp_path)
    assert again.folder == first.folder
    assert marked.read_text().endswith("\n\n")


class Scripted(System):
    """Reaches what its hyperparameter says: it likes the targets of validation users by that much."""

    def __init__(self, skill: float) -> None:
        self._skill = skill

    def fit(self, data: TrainingData) -> None:
        self._data = data
        if self._skill < 0:
            raise FailedPrecondition("scripted to fail", reason="SCRIPTED")

    def scores(self, sessions: Sequence[Session]) -> NDArray[np.floating]:
        found = np.random.default_rng(0).random((len(sessions), 1, len(self._data.items)))
        for row, session in zip(found, sessions, strict=True):
            for item_id in session.target_item_ids:
                row[0, self._data.positions[item_id]] += self._skill
        return found


@pytest.fixture
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Entry("Scripted", "No Profile", lambda values, context: Scripted(values["skill"]), (), (), {}, 1)
    monkeypatch.setattr(systems, "SYSTEMS", {**SYSTEMS, "scripted": made})


@pytest.mark.usefixtures("_scripted")
def test_validation_users_choose_the_candidate(spec: RunSpec, tmp_path: Path) -> None:
    """The middle one is best; all are recorded."""
    result = execute(replace(spec, system="scripted", candidates=tuple({"skill": skill} for skill in (0.0, 1.0, 0.5))), tmp_path)
    assert result.config["chosen"] == {"skill": 1.0}
    reached = result.metrics["validation_ndcg"]
    assert len(reached) == 3
    assert reached[1] == max(reached)


@pytest.mark.usefixtures("_scripted")
def test_a_run_that_fails_leaves_nothing(spec: RunSpec, tmp_path: Path) -> None:
    """Neither a result nor a part of one."""
    with pytest.raises(FailedPrecondition, match="scripted"):
        execute(replace(spec, system="scripted", candidates=({"skill": -1.0},)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_data_that_changed_is_refused(spec: RunSpec, tmp_path: Path) -> None:
    """A plan names the content that it was made for."""
    with pytest.raises(FailedPrecondition, match="changed"):
        execute(replace(spec, dataset_hash="0" * 64), tmp_path)


def test_finished_runs_are_only_counted(spec: RunSpec, tmp_path: Path) -> None:
    """No worker is started; equal runs are one; the results come in the order of the plan."""
    other = replace(spec, system="random")
    for each in (other, spec):
        execute(each, tmp_path)
    heard = StringIO()
    results = run_all([spec, other, spec], tmp_path, processes=2, console=Console(file=heard))
    assert list(results) == [spec.name, other.name]
    assert heard.getvalue() == "2 of 2 results are there already\n"


def test_two_experiments_do_not_write_into_one_folder(spec: RunSpec, tmp_path: Path) -> None:
    """The second is refused while the first holds the folder."""
    runs = tmp_path / "runs"
    with (tmp_path / "runs.lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        with pytest.raises(FailedPrecondition, match="another experiment"):
            run_all([spec], runs, processes=1, console=Console(file=StringIO()))
    assert list(runs.iterdir()) == []


def test_the_time_left_is_guessed_from_what_finished() -> None:
    """Three runs thought to take 10, 20 and 30 s on two processes: (60 / 2); the first took 20 s, so twice the rest: 100 / 2 but
    the longest alone needs 60."""
    clock = Clock(2, {"a": 10.0, "b": 20.0, "c": 30.0})
    assert clock.left == 30.0
    clock.finish("a", 20.0)
    assert clock.left == 60.0
    assert clock.note() == "about 60 s left"


def test_another_embedder_has_candidates_of_its_own(tmp_path: Path) -> None:
    """The rate of the sample world's tiny embedder would undo what a large one knows; a system without one has one grid."""
    settings = Settings(out=tmp_path, preset=Preset.FULL)
    other = replace(settings, embedder="all-MiniLM-L6-v2")
    rates = [config_of(values).contrastive.learning_rate for values in other.candidates("noprofile-cl")]
    assert (len(settings.candidates("noprofile-cl")), rates) == (1, [2e-5, 1e-4])
    assert other.candidates("nmf") == settings.candidates("nmf")


def test_settings_plan_a_world_a_seed(tmp_path: Path) -> None:
    """On the sample world seeds differ in data; names are the same when planned again; the paper's values are one candidate."""
    settings = Settings(out=tmp_path, preset=Preset.QUICK, seeds=2)
    specs = settings.specs(["nmf", "random"])
    assert [(each.seed, each.system) for each in specs] == [(1, "nmf"), (1, "random"), (2, "nmf"), (2, "random")]
    assert specs[0].dataset_hash != specs[2].dataset_hash
    assert [each.name for each in settings.specs(["nmf", "random"])] == [each.name for each in specs]
    paper = replace(settings, hyperparameters=Hyperparameters.PAPER).specs(["nmf"])
    assert paper[0].candidates == ({"components": 1_000},)


def test_rendering_needs_the_results(tmp_path: Path) -> None:
    """A folder that holds no experiment, and one whose run is gone."""
    with pytest.raises(FailedPrecondition, match="no experiment"):
        render(tmp_path, EXPERIMENTS)
    settings = {"preset": "quick", "seeds": 1, "dataset": None, "hyperparameters": "tuned", "encoder": "", "embedder": ""}
    config = {"experiment": "table3", "command": "", "settings": {**settings, "test_users": None}, "runs": ["random-0"]}
    folder = tmp_path / "table3"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(FailedPrecondition, match="is gone"):
        render(folder, EXPERIMENTS)
    assert Result.find(tmp_path, "random-0") is None
