"""Tables from results that are given: which runs they need, what stands in which row, what is tested against what."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from experiments.runs import RunSpec
from experiments.settings import Hyperparameters, Preset, Settings
from experiments.tables import EXPERIMENTS, render, run
from experiments.tables.lengths import longest_profile, shortened

USERS = 60


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(out=tmp_path_factory.mktemp("out"), preset=Preset.QUICK, seeds=2)


def _give(spec: RunSpec, runs: Path, mean: float) -> None:
    """A finished run whose users score about `mean`, each a little differently from system to system."""
    folder = runs / spec.name
    if folder.exists():
        return
    folder.mkdir(parents=True)
    rng = np.random.default_rng([spec.seed, len(folder.name), round(1_000 * mean)])
    scores = mean + 0.02 * rng.standard_normal(USERS)
    scores += mean - scores.mean()
    users = {"user_id": [f"u{at}" for at in range(USERS)], "ndcg": scores, "recall": 2 * scores, "mrr": scores / 2}
    pq.write_table(pa.table(users), folder / "users.parquet")
    config = {"identity": spec.identity, "chosen": dict(spec.candidates[0]), "seconds": 1.0}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.json").write_text("{}")


def _table(name: str, settings: Settings, mean: Callable[[RunSpec], float]) -> tuple[list[list[str]], Path]:
    for spec in EXPERIMENTS[name].plan(settings):
        _give(spec, settings.runs, mean(spec))
    folder = run(name, EXPERIMENTS[name], settings, f"langptune experiment {name}", 1, Console(file=StringIO()))
    lines = (folder / "table.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return rows[2:], folder


MEANS = {"random": 0.01, "most-popular": 0.05, "langptune": 0.2, "noprofile-0": 0.25, "noprofile-cl": 0.25}


def _by_system(spec: RunSpec) -> float:
    return MEANS.get(spec.system, 0.1)


def test_table_2_holds_the_interpretable_methods_against_langptune(settings: Settings) -> None:
    """Twice as good as the other three; 2 seeds are 2 worlds, so 120 users."""
    rows, folder = _table("table2", settings, _by_system)
    assert [row[1] for row in rows] == ["LangPTune-0", "LangPTune-CL", "LangPTune-RLSO", "LangPTune"]
    assert [row[4].split()[0] for row in rows] == ["0.1000", "0.1000", "0.1000", "0.2000"]
    assert [row[2].split()[0] for row in rows][-1] == "0.4000"
    assert [row[5] for row in rows] == ["+100.0%*", "+100.0%*", "+100.0%*", ""]
    assert "120 test users; seeds 1, 2; 2 data sets." in (folder / "table.md").read_text()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["langptune-0"]["champion_against_it"]["p_holm"] >= metrics["langptune-0"]["champion_against_it"]["p"]
    assert (folder / "picture.png").stat().st_size > 0


def test_table_3_has_every_type(settings: Settings) -> None:
    """In the paper's order, by type, and NoProfile; the run that table 2 has, too, is the same."""
    rows, folder = _table("table3", settings, _by_system)
    names = ["Random", "MP", "NMF", "LightGCN", "MCL", "BERT4Rec", "LLM2BERT4Rec", "NoProfile-0", "NoProfile-CL", "LangPTune"]
    assert [row[1] for row in rows] == names
    assert [row[0] for row in rows] == ["No Profile"] * 2 + ["Black-Box Profile"] * 5 + [
        "No Bottleneck",
        "No Bottleneck",
        "Interpretable Profile",
    ]
    assert rows[0][5] == "+1900.0%*"
    shared = {spec.name for spec in EXPERIMENTS["table2"].plan(settings)} & {
        spec.name for spec in EXPERIMENTS["table3"].plan(settings)
    }
    assert len(shared) == 2
    before = (folder / "table.md").read_text()
    (folder / "picture.png").unlink()
    assert render(folder, EXPERIMENTS).read_text() == before
    assert (folder / "picture.png").exists()


def test_table_4_shortens_profiles(settings: Settings) -> None:
    """80 tokens on the sample world: 10, 20, 40, 80; the longest is the run of the other tables, and is tested against all."""
    rows, _ = _table(
        "table4", settings, lambda spec: 0.25 if spec.system.startswith("no") else longest_profile(spec.candidates[0]) / 400
    )
    assert [(row[0], row[1]) for row in rows] == [
        *(("LangPTune", str(length)) for length in (10, 20, 40, 80)),
        ("NoProfile-0", "N/A"),
        ("NoProfile-CL", "N/A"),
    ]
    assert [row[4].split()[0] for row in rows[:4]] == ["0.0250", "0.0500", "0.1000", "0.2000"]
    assert [row[5] for row in rows] == ["+700.0%*", "+300.0%*", "+100.0%*", "", "-20.0%*", "-20.0%*"]
    names = {spec.name for spec in EXPERIMENTS["table2"].plan(settings)}
    assert {spec.name for spec in EXPERIMENTS["table4"].plan(settings) if spec.name in names}


def test_figure_4_has_a_column_a_share(settings: Settings) -> None:
    """LangPTune gives .2 whatever the share, the others .1 x share^(1/3): .01, .0215, .0464, .1."""
    rows, _ = _table("figure4", settings, lambda spec: 0.2 if spec.system == "langptune" else 0.1 * spec.train_ratio ** (1 / 3))
    assert [row[0] for row in rows[:3]] == ["MCL", "LLM2BERT4Rec", "LangPTune"]
    assert [cell.split()[0] for cell in rows[0][1:]] == ["0.0100", "0.0215", "0.0464", "0.1000"]
    assert rows[3][0] == "LangPTune against MCL (p)"
    assert [cell.split()[0] for cell in rows[3][1:]] == ["+1900.0%*", "+828.3%*", "+330.9%*", "+100.0%*"]


def test_the_papers_lengths() -> None:
    """512 tokens: 64, 128, 256, 512."""
    (values,) = Settings(out=Path(), hyperparameters=Hyperparameters.PAPER).candidates("langptune")
    assert [longest_profile(shortened(values, share)) for share in (1 / 8, 1 / 4, 1 / 2, 1)] == [64, 128, 256, 512]
