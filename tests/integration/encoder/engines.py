"""Both engines over the same weights store with the micro model in it, and histories for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from langptune.weights import WeightsStore
from services.encoder.engines.port import Engine, Options, RolloutGroup, Work
from services.encoder.engines.tgi import TgiEngine
from services.encoder.engines.transformers import TransformersEngine
from services.encoder.settings import EncoderSettings
from tests.support.micro_writer import interaction
from tests.support.tgi import FakeTgi, serving

HISTORIES = [[interaction(f"Title {number}", review="So so. " * number)] for number in range(4)]
PLACES = 3


@dataclass
class Running:
    """An engine that serves `version`; `tgi` is the server behind it, if there is one."""

    name: str
    engine: Engine
    version: str
    tgi: FakeTgi | None

    def work(self, *, histories: int = 1, samples: int = 1, length: int = 12, seed: int = 1, temperature: float = 1.0) -> Work:
        return Work(self.version, HISTORIES[:histories], "books", Options(length, temperature, seed), samples)

    async def sample(self, work: Work) -> list[RolloutGroup]:
        groups = [group async for group in self.engine.sample_rollouts(work)]
        return sorted(groups, key=lambda group: group.index)


def settings_for(url: str = "http://127.0.0.1:1", **changes: object) -> EncoderSettings:
    values = {"encoder_max_pending": PLACES, "encoder_retry_after": 0.25, "encoder_tgi_urls": url, "encoder_tgi_timeout": 60.0}
    return EncoderSettings.model_validate(values | changes)


@asynccontextmanager
async def running_engine(name: str, store: WeightsStore, version: str, folder: Path) -> AsyncIterator[Running]:
    """`name`: "transformers" or "tgi"."""
    if name == "transformers":
        engine: Engine = TransformersEngine(settings_for(), store)
        await engine.start(version)
        yield Running(name, engine, version, None)
        await engine.close()
        return
    fake = FakeTgi(folder)
    async with serving(fake) as url:
        engine = TgiEngine(settings_for(url), store)
        await engine.start(version)
        yield Running(name, engine, version, fake)
        await engine.close()
