"""A real gateway over real Redis, encoder and decoder processes with the sample models, and a small sample world."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from langptune.data.dataset import Dataset
from langptune.local.process import free_port
from langptune.weights import Release, ReleaseRegistry, WeightsStore
from tests.support.otlp import Collector, running_collector
from tests.support.processes import ROOT, RunningService, await_serving, running_service, start_service
from tests.support.redis import running_redis

MODELS = ROOT / "samples" / "models"


@dataclass(frozen=True)
class World:
    """What runs, and how to start more of it."""

    folder: Path
    env: dict[str, str]
    redis_url: str
    encoder: RunningService
    decoder: RunningService
    gateway: RunningService
    dataset: Dataset
    release: Release
    collector: Collector  # of the traces of all of them

    @contextmanager
    def another_gateway(self, **settings: str) -> Iterator[RunningService]:
        """A gateway with other settings on the same stores."""
        with running_service("gateway", self.folder, self.env | settings) as gateway:
            yield gateway


@contextmanager
def running_world(folder: Path, dataset: Dataset) -> Iterator[World]:
    """Everything but the trainer; one release is live."""
    with ExitStack() as stack:
        redis_url = stack.enter_context(running_redis(folder / "redis"))
        collector = stack.enter_context(running_collector())
        env = {
            "LANGPTUNE_REDIS_URL": redis_url,
            "LANGPTUNE_WEIGHTS_URI": str(folder / "weights"),
            "LANGPTUNE_WEIGHTS_CACHE": str(folder / "cache"),
            "LANGPTUNE_PROFILE_MODEL": str(MODELS / "profile-writer"),
            "LANGPTUNE_EMBEDDING_MODEL": str(MODELS / "embedder"),
            "LANGPTUNE_DECODER_DATA": str(folder / "decoder"),
            "LANGPTUNE_DECODER_MIN_FREE_DISK": "0",
            "LANGPTUNE_TRAINER_ADDRESS": f"127.0.0.1:{free_port()}",
            **collector.settings(),
        }
        models = [start_service(name, folder, env, wait=0) for name in ("encoder", "decoder")]
        for service in models:
            stack.callback(_end, service)
        release = asyncio.run(_first_release(redis_url, folder / "weights"))
        encoder, decoder = models
        env |= {"LANGPTUNE_ENCODER_ADDRESS": encoder.address, "LANGPTUNE_DECODER_ADDRESS": decoder.address}
        for service in models:
            await_serving(service)
        gateway = stack.enter_context(running_service("gateway", folder, env))
        yield World(folder, env, redis_url, encoder, decoder, gateway, dataset, release, collector)


async def _first_release(redis_url: str, weights: Path) -> Release:
    """What the trainer does at its first start: a release of the two base versions."""
    store = WeightsStore(str(weights), weights / "unused")
    encoder = store.ensure_base("encoder", str(MODELS / "profile-writer"))
    decoder = store.ensure_base("decoder", str(MODELS / "embedder"))
    async with Redis.from_url(redis_url) as client:
        return await ReleaseRegistry(client).ensure_first(encoder.version, decoder.version, reason="first")


def _end(service: RunningService) -> None:
    if service.process.poll() is None:
        service.terminate()
