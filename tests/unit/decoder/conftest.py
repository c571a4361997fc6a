"""A decoder in process: micro embedders, a weights store, the embedded Qdrant engine in a temporary folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from langptune.weights import Manifest, WeightsStore
from services.decoder.catalogue import Catalogue
from services.decoder.decoder import Decoder
from services.decoder.engines import open_engine
from services.decoder.index import Engine
from services.decoder.settings import DecoderSettings
from services.decoder.versions import VersionPool
from tests.support.micro_embedder import make_micro_embedder


@dataclass(frozen=True)
class Models:
    """Folders of two embedders that rank differently."""

    first: Path
    second: Path


@dataclass(frozen=True)
class Bench:
    """A decoder and what stands behind it."""

    decoder: Decoder
    engine: Engine
    store: WeightsStore
    versions: tuple[str, str]  # of the first and of the second model


OpenBench = Callable[..., AbstractAsyncContextManager[Bench]]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models")
    return Models(make_micro_embedder(folder / "first", seed=1), make_micro_embedder(folder / "second", seed=2))


@pytest.fixture
def settings(models: Models, tmp_path: Path) -> DecoderSettings:
    return DecoderSettings(
        weights_uri=str(tmp_path / "weights"),
        embedding_model=str(models.first),
        decoder_data=str(tmp_path / "data"),
        decoder_min_free_disk=0,
    )


@pytest.fixture
def open_bench(models: Models, settings: DecoderSettings, tmp_path: Path) -> OpenBench:
    """`async with open_bench(setting=value) as bench`: opening again finds what the last one left."""

    @asynccontextmanager
    async def opened(**changes: object) -> AsyncIterator[Bench]:
        chosen = settings.model_copy(update=changes)
        store = WeightsStore(chosen.weights_uri, tmp_path / "cache")
        first = store.ensure_base("decoder", str(models.first)).version
        second = store.add(models.second, Manifest(version="second", kind="decoder", base_model=str(models.first))).version
        engine = open_engine(chosen)
        catalogue = await Catalogue.load(await engine.open("catalogue", 0))
        versions = VersionPool(chosen, store, engine, catalogue)
        decoder = Decoder(catalogue, versions, refuse_long=chosen.embedder_over_length == "drop")
        try:
            yield Bench(decoder, engine, store, (first, second))
        finally:
            await decoder.close()
            await engine.close()

    return opened
