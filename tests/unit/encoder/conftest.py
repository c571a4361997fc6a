"""The micro model, in memory and as a folder, and an engine over a weights store that has it as base."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM

from langptune.weights import WeightsStore
from services.encoder.engines.attention import prepare
from services.encoder.engines.transformers import TransformersEngine
from services.encoder.settings import EncoderSettings
from tests.support.micro_writer import micro_model, save_micro_writer


@pytest.fixture(scope="session")
def model() -> LlamaForCausalLM:
    model = micro_model()
    prepare(model)
    return model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_micro_writer(tmp_path_factory.mktemp("writer"))


@pytest.fixture
def store(tmp_path: Path) -> WeightsStore:
    return WeightsStore(str(tmp_path / "weights"), tmp_path / "cache")


@pytest.fixture
def base_version(store: WeightsStore, model_folder: Path) -> str:
    return store.ensure_base("encoder", str(model_folder)).version


@pytest.fixture
def settings() -> EncoderSettings:
    return EncoderSettings(encoder_resident_versions=2, encoder_max_pending=3, encoder_batch_rows=8, encoder_retry_after=0.25)


@pytest.fixture
async def engine(settings: EncoderSettings, store: WeightsStore) -> AsyncIterator[TransformersEngine]:
    running = TransformersEngine(settings, store)
    yield running
    await running.close()
