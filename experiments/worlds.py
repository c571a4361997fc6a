"""The sample world as data for experiments: in memory, or written once into a folder that its size and seed name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from langptune.data.dataset import Dataset
from langptune.domain import Item, Session
from samples.dataset import DEFAULT_USERS, make_dataset, world_sessions
from samples.models import EMBEDDER, MODELS_FOLDER, WRITER
from samples.world import DEFAULT_ITEMS, make_catalogue

SAMPLE_ENCODER = str(MODELS_FOLDER / WRITER)
SAMPLE_EMBEDDER = str(MODELS_FOLDER / EMBEDDER)


@dataclass(frozen=True)
class World:
    """One sample world in memory."""

    items: dict[str, Item]
    splits: dict[str, list[Session]]

    @classmethod
    def of(cls, seed: int, users: int = DEFAULT_USERS, items: int = DEFAULT_ITEMS) -> World:
        """The world that `samples.dataset.make_dataset` would write for `seed`."""
        catalogue = make_catalogue(items, seed)
        splits: dict[str, list[Session]] = {"train": [], "validation": [], "test": []}
        for session in world_sessions(catalogue, users, seed):
            splits[session.split].append(session)
        return cls({item.item_id: item for item in catalogue.items}, splits)


def written_world(folder: Path, *, items: int, users: int, seed: int) -> Dataset:
    """The world of `seed` as a data set below `folder`; written only if it is not there yet."""
    place = folder / f"sample-{items}-{users}-{seed}"
    if (place / "dataset.json").exists():
        return Dataset.open(place)
    return make_dataset(place, items=items, users=users, seed=seed)
