"""What an experiment is asked to run on: data, sizes, seeds, hyperparameters; and the runs that follow from it.

On the sample world a seed is a world, an order of the data and the sampling, all its own; on a given data set it is the order
and the sampling only. The tiny models and their preset were tuned on the world of seed 0, so seeds begin at 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from experiments.runs import RunSpec
from experiments.systems import Values, entry
from experiments.worlds import SAMPLE_EMBEDDER, SAMPLE_ENCODER, written_world
from langptune.data.dataset import Dataset


class Preset(StrEnum):
    """How much work."""

    QUICK = "quick"  # a small world, one candidate, a few batches: does it run, and is it sane?
    FULL = "full"


class Hyperparameters(StrEnum):
    """Which values."""

    TUNED = "tuned"  # our grids, chosen on validation users
    PAPER = "paper"  # Appendix B


@dataclass(frozen=True)
class WorldSize:
    """Of the sample world."""

    items: int
    users: int
    test_users: int


WORLDS = {Preset.QUICK: WorldSize(120, 300, 60), Preset.FULL: WorldSize(1_200, 6_400, 1_200)}


@dataclass(frozen=True)
class Settings:
    """One call of `langptune experiment`."""

    out: Path
    preset: Preset = Preset.QUICK
    seeds: int = 1
    dataset: Path | None = None  # None: the sample world
    hyperparameters: Hyperparameters = Hyperparameters.TUNED
    encoder: str = SAMPLE_ENCODER
    embedder: str = SAMPLE_EMBEDDER
    test_users: int | None = None  # None: those of the preset on the sample world, all of another data set

    @property
    def runs(self) -> Path:
        """Where results lie."""
        return self.out / "runs"

    def datasets(self) -> list[tuple[int, Dataset]]:
        """(seed, data set), one a seed; sample worlds are written below `out` if they are not there."""
        numbers = range(1, self.seeds + 1)
        if self.dataset is not None:
            given = Dataset.open(self.dataset.absolute())
            return [(seed, given) for seed in numbers]
        size = WORLDS[self.preset]
        place = self.out.absolute() / "worlds"
        return [(seed, written_world(place, items=size.items, users=size.users, seed=seed)) for seed in numbers]

    def candidates(self, system: str) -> tuple[Values, ...]:
        """The hyperparameters that validation users choose among."""
        about = entry(system)
        if self.hyperparameters is Hyperparameters.PAPER:
            return (about.paper,)
        if self.preset is Preset.QUICK:
            return about.quick
        return about.full if self.embedder == SAMPLE_EMBEDDER else about.pretrained or about.full

    def specs(
        self, systems: Sequence[str], *, train_ratio: float = 1.0, candidates: tuple[Values, ...] | None = None
    ) -> list[RunSpec]:
        """A run for each system and seed; `candidates` in place of the system's own."""
        size = WORLDS[self.preset].test_users if self.dataset is None else 0
        return [
            RunSpec(
                system=system,
                candidates=candidates or self.candidates(system),
                dataset=str(dataset.folder),
                dataset_hash=dataset.content_hash,
                seed=seed,
                encoder=self.encoder,
                embedder=self.embedder,
                test_users=size if self.test_users is None else self.test_users,
                train_ratio=train_ratio,
            )
            for seed, dataset in self.datasets()
            for system in systems
        ]
