"""One run: one system, one data set, one seed. Its result is a folder named by everything that it follows from.

    config.json     what was asked, what validation chose, where it ran and how long it took
    metrics.json    Recall, MRR, NDCG @20 on the test users with 95 % intervals; NDCG of every candidate on validation users
    users.parquet   user_id, ndcg, recall, mrr, ranks (a list: one a sample)
    picture.png     share of test users whose target is within the first k places
    texts.parquet, training.parquet, encoder/, embedder/   of the systems that have them (`systems.language`)

A folder appears whole or not at all. Equal names are equal results: nothing is computed twice.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.systems import Values, entry
from langptune.errors import FailedPrecondition
from langptune.evaluate.scores import Scores

if TYPE_CHECKING:
    from experiments.systems.base import System

FORMAT = 1  # of a result folder
_ROOT = Path(__file__).parents[1]
_CODE = (  # what a result follows from, __init__.py left out: grids are in the identity by value
    "experiments/data.py",
    "experiments/in_process.py",
    "experiments/scoring.py",
    "experiments/systems",
    "langptune/ranking.py",
    "langptune/text.py",
    "services/encoder/engines",
    "services/trainer/learning",
)


@dataclass(frozen=True)
class RunSpec:
    """What is asked for."""

    system: str
    candidates: tuple[Values, ...]  # validation users choose among them
    dataset: str  # folder
    dataset_hash: str
    seed: int
    encoder: str  # folder or hub id
    embedder: str
    test_users: int = 0  # the first so many; 0: all
    train_ratio: float = 1.0

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that the result follows from, and nothing else; plain values."""
        needs = entry(self.system).needs
        return {
            "format": FORMAT,
            "system": self.system,
            "candidates": [dict(values) for values in self.candidates],
            "dataset_hash": self.dataset_hash,
            "seed": self.seed,
            "test_users": self.test_users,
            "train_ratio": self.train_ratio,
            "models": {name: model_hash(getattr(self, name)) for name in sorted(needs)},
            "code": code_hash(),
        }

    @property
    def name(self) -> str:
        """Of the result folder."""
        text = json.dumps(self.identity, sort_keys=True, separators=(",", ":"))
        return f"{self.system}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class Result:
    """A finished run as it lies on disk."""

    folder: Path

    @classmethod
    def find(cls, runs: Path, name: str) -> Result | None:
        """The result of that name below `runs`, if it is complete."""
        folder = runs / name
        return cls(folder) if (folder / "config.json").exists() else None

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json."""
        return dict(json.loads((self.folder / "config.json").read_text()))

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """metrics.json."""
        return dict(json.loads((self.folder / "metrics.json").read_text()))

    @cached_property
    def scores(self) -> Scores:
        """Per test user, in file order."""
        table = pq.read_table(self.folder / "users.parquet").to_pydict()
        rows = list(zip(table["ndcg"], table["recall"], table["mrr"], strict=True))
        return Scores.of(table["user_id"], rows)


def execute(spec: RunSpec, runs: Path) -> Result:
    """Do the run, unless its result is there. Raises what the system raises, and leaves nothing behind then."""
    done = Result.find(runs, spec.name)
    if done:
        return done
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{spec.name}.", dir=runs, ignore_cleanup_errors=True) as place:
        folder = Path(place) / "result"
        folder.mkdir()
        _compute(spec, folder)
        try:
            folder.rename(runs / spec.name)
        except OSError as error:  # somebody else has finished the same run meanwhile
            if Result.find(runs, spec.name) is None:
                raise FailedPrecondition(f"{runs / spec.name} cannot be written: {error}", reason="STORAGE") from error
    return Result(runs / spec.name)


def clear_leftovers(runs: Path) -> None:
    """Remove what runs that were killed have left. Only while nobody else works in `runs`."""
    for place in runs.glob(".*-*.*"):
        shutil.rmtree(place, ignore_errors=True)


def _compute(spec: RunSpec, folder: Path) -> None:
    from experiments.data import split_of
    from experiments.picture import draw_places
    from experiments.scoring import rank_users
    from langptune.data.dataset import Dataset

    began, cpu = time.monotonic(), time.process_time()
    dataset = Dataset.open(spec.dataset)
    if dataset.content_hash != spec.dataset_hash:
        raise FailedPrecondition(f"{spec.dataset} has changed since the run was planned", reason="OTHER_DATA")
    split = split_of(dataset, test_users=spec.test_users, train_ratio=spec.train_ratio, seed=spec.seed)
    system, chosen, validation = _tuned(spec, split.training)
    ranked = rank_users(system, split.training, split.test, spec.seed)
    system.save(folder)
    table = {"user_id": list(ranked.scores.user_ids), **{name: ranked.scores.metric(name) for name in ("ndcg", "recall", "mrr")}}
    pq.write_table(pa.table({**table, "ranks": ranked.ranks.tolist()}), folder / "users.parquet")
    draw_places(ranked.ranks, len(dataset.items), entry(spec.system).title, folder / "picture.png")
    metrics = {"test": ranked.scores.summary(), "users": len(split.test), "validation_ndcg": validation}
    _write_json(folder / "metrics.json", metrics)
    about = {
        "dataset": {"name": dataset.name, "items": len(dataset.items), "domain": dataset.domain},
        "chosen": dict(spec.candidates[chosen]),
        "seconds": round(time.monotonic() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
    }
    _write_json(folder / "config.json", {"identity": spec.identity, "asked": asdict(spec), **about})


def _tuned(spec: RunSpec, data: Any) -> tuple[System, int, list[float]]:
    """The candidate with the best NDCG@20 on validation users, fitted; its place; what each reached, where there is a choice."""
    from experiments.in_process import ModelNames
    from experiments.scoring import mean_ndcg
    from experiments.systems import Context

    context = Context(spec.seed, ModelNames(spec.encoder, spec.embedder))
    best: tuple[float, int, System] | None = None
    reached = []
    for at, values in enumerate(spec.candidates):
        system = entry(spec.system).make(values, context)
        system.fit(data)
        if len(spec.candidates) == 1:
            return system, 0, []
        reached.append(mean_ndcg(system, data, data.validation, spec.seed))
        if best is None or reached[-1] > best[0]:
            best = (reached[-1], at, system)
    if best is None:
        raise FailedPrecondition(f"no hyperparameters are given for {spec.system}", reason="NO_CANDIDATES")
    return best[2], best[1], reached


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, default=str) + "\n")


@lru_cache
def code_hash() -> str:
    """Of the source that results follow from."""
    digest = hashlib.sha256()
    for name in _CODE:
        path = _ROOT / name
        for file in sorted(path.rglob("[!_]*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(_ROOT)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@lru_cache
def model_hash(model: str) -> str:
    """Of a model folder's files; a hub id stands for itself."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix in {".json", ".safetensors", ".model", ".txt", ".jinja"}:
            digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
