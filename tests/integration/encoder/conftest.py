"""A weights store with the micro model as base version."""

from __future__ import annotations

from pathlib import Path

import pytest

from langptune.weights import WeightsStore
from tests.support.micro_writer import save_micro_writer


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_micro_writer(tmp_path_factory.mktemp("writer"))


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(str(tmp_path / "weights"), tmp_path / "cache")


@pytest.fixture
def base_version(store: WeightsStore, model_folder: Path) -> str:
    return store.ensure_base("encoder", str(model_folder)).version
