"""The tables of the study and beyond the paper, on finished runs of the quick preset."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.beyond import cache
from experiments.beyond.reopen import Reopened
from experiments.runs import Result, execute
from experiments.settings import Settings
from experiments.tables import EXPERIMENTS
from experiments.tables.study import PROFILE_TYPES
from langptune.errors import FailedPrecondition
from samples.dataset import make_dataset

NAMES = ("noprofile-0", "langptune-0", "langptune-rlso", "langptune")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(tmp_path_factory.mktemp("experiments"), test_users=24)


@pytest.fixture(scope="module")
def results(settings: Settings) -> list[Result]:
    return [execute(spec, settings.runs) for spec in settings.specs(NAMES)]


def test_a_run_is_the_same_when_it_is_opened_again(results: list[Result]) -> None:
    """Its texts under its embedder put the targets where the run put them, trained or not."""
    for result in results:
        run = Reopened(result)
        scores = run.similarities([text.text for text in run.texts])
        targets = [run.positions[session.target_item_ids[0]] for session in run.sessions]
        ranked = [
            1 + sum(scores[at][place] > scores[at][target] for place in range(len(run.positions)) if place not in seen)
            for at, (target, session) in enumerate(zip(targets, run.sessions, strict=True))
            for seen in [{run.positions[entry.item.item_id] for entry in session.history}]
        ]
        first = [1 / rank if rank <= 20 else 0 for rank in ranked]
        assert first == pytest.approx(result.scores.mrr.tolist(), abs=1e-6), result.folder.name


@pytest.mark.parametrize("name", ["steering", "profiles", "histories"])
def test_a_row_for_every_interpretable_system(
    name: str, settings: Settings, results: list[Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = [results[0], results[-1]]
    report = EXPERIMENTS[name].report(settings, two)
    assert {row[0] for row in report.rows} == {"NoProfile-0", "LangPTune"}
    assert all(len(row) == len(report.head) for row in report.rows)
    monkeypatch.setattr(cache, "_write", None)  # whatever were measured again would fail
    assert EXPERIMENTS[name].report(settings, two).metrics == report.metrics


def test_steering_moves_raw_histories_less_than_profiles_of_the_same_embedder(settings: Settings, results: list[Result]) -> None:
    """One sentence before four films with their reviews, or before a few sentences: 12 users, 24 edits each way."""
    metrics = EXPERIMENTS["steering"].report(settings, results[:2]).metrics
    for kind in ("common", "niche"):
        assert metrics[f"langptune-0/{kind}/towards"]["shift"]["mean"] > metrics[f"noprofile-0/{kind}/towards"]["shift"]["mean"]
        assert metrics[f"langptune-0/{kind}/towards"]["success"]["mean"] > 0.8


def test_raw_histories_claim_nothing_that_is_not_so(settings: Settings, results: list[Result]) -> None:
    metrics = EXPERIMENTS["profiles"].report(settings, results[:2]).metrics
    assert metrics["noprofile-0"]["faithfulness"]["mean"] == 1.0
    assert metrics["langptune-0"]["faithfulness"]["mean"] > 2 * metrics["langptune-0"]["chance"]


def test_histories_of_every_length_are_measured(settings: Settings, results: list[Result]) -> None:
    found = EXPERIMENTS["histories"].report(settings, results[:1]).metrics["noprofile-0"]
    assert list(found) == ["1", "2", "3", "4", "8", "16"]
    assert all(found.values())


def test_figure_5_has_three_pictures_and_its_figures(settings: Settings, results: list[Result]) -> None:
    report = EXPERIMENTS["figure5"].report(settings, results[:3])
    assert report.picture is not None
    assert len(report.picture.axes) == 3
    assert [row[0] for row in report.rows] == ["NoProfile-0", "LangPTune-0", "LangPTune-RLSO"]
    assert report.metrics["noprofile-0"]["tokens"]["mean"] > report.metrics["langptune-0"]["tokens"]["mean"]
    assert len(report.metrics["reward"]["batches"]) == 3


def test_table_5_has_the_word_judge_and_whoever_else_has_answered(settings: Settings, results: list[Result]) -> None:
    report = EXPERIMENTS["table5"].report(settings, results)
    assert [(row[0], row[1]) for row in report.rows] == [("shared-words", kind) for kind in PROFILE_TYPES]
    kit = json.loads((settings.out / "study" / "kit.json").read_text())
    assert len(kit["tasks"]) == 3 * 24
    asks = [
        {"kit": kit["content_hash"], "judge": "oracle", "task_id": task["task_id"], "seconds": 1.0}
        | {"text": f"Justification: I know.\n\nChoice: {task['answer']}"}
        for task in kit["tasks"]
    ]
    (settings.out / "study" / "judges" / "oracle.jsonl").write_text("".join(json.dumps(ask) + "\n" for ask in asks))
    again = EXPERIMENTS["table5"].report(settings, results)
    assert [row[2] for row in again.rows if row[0] == "oracle"] == ["100.00%"] * 3
    assert "McNemar" in again.markdown("langptune experiment table5")


def test_table_6_has_the_lengths_of_what_is_read(settings: Settings, results: list[Result]) -> None:
    report = EXPERIMENTS["table6"].report(settings, results)
    assert [row[0] for row in report.rows] == ["answer options", *PROFILE_TYPES]
    assert report.metrics["noprofile-0"]["words"] > report.metrics["langptune"]["words"] > 3
    assert {row[3] for row in report.rows} == {"-"}


def test_examples_show_what_each_iteration_writes(settings: Settings, results: list[Result]) -> None:
    plan = EXPERIMENTS["examples"].plan(settings)
    assert {spec.name for spec in plan} <= {result.folder.name for result in results}, "nothing is run that there is already"
    report = EXPERIMENTS["examples"].report(settings, [execute(spec, settings.runs) for spec in plan])
    assert [row[1] for row in report.rows] == ["input", "k = 0", "k = 1"] * 2
    assert all("\n" not in cell for row in report.rows for cell in row)


def test_a_run_whose_data_have_changed_is_not_opened(tmp_path: Path, results: list[Result]) -> None:
    other = make_dataset(tmp_path / "other", items=120, users=40, seed=9)
    config = json.loads((results[0].folder / "config.json").read_text())
    config["asked"]["dataset"] = str(other.folder)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(FailedPrecondition, match="has changed"):
        _ = Reopened(replace(results[0], folder=tmp_path / "run")).dataset
