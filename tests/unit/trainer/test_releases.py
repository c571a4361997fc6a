"""The first release and the job's release, on a real Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis.asyncio as redis

from langptune.errors import FailedPrecondition
from langptune.weights import ReleaseRegistry, WeightsStore
from services.trainer.publishing.messages import release_to_proto
from services.trainer.publishing.releases import bootstrap, release_of_job
from services.trainer.settings import TrainerSettings


@pytest.fixture
def settings(tmp_path: Path) -> TrainerSettings:
    for name in ("writer", "embedder"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(f'{{"name": "{name}"}}')
    return TrainerSettings(profile_model=str(tmp_path / "writer"), embedding_model=str(tmp_path / "embedder"))


async def test_trainers_that_start_together_agree_on_the_first_release(
    store: redis.Redis, settings: TrainerSettings, tmp_path: Path
) -> None:
    registry, weights = ReleaseRegistry(store), WeightsStore(str(tmp_path / "weights"), tmp_path / "cache")
    await asyncio.gather(*(bootstrap(registry, weights, settings) for _ in range(4)))
    live = await registry.live()
    assert live.encoder_version.startswith("base-")
    assert weights.manifest("decoder", live.decoder_version).base_model == settings.embedding_model
    await bootstrap(registry, weights, settings)
    assert (await registry.live()) == live
    assert len(await registry.history(10)) == 1
    with pytest.raises(FailedPrecondition):
        await registry.previous()


async def test_a_missing_base_model_is_told(store: redis.Redis, tmp_path: Path) -> None:
    settings = TrainerSettings(profile_model=str(tmp_path / "nothing"), embedding_model="a/b")
    with pytest.raises(FailedPrecondition, match="nothing does not exist"):
        await bootstrap(ReleaseRegistry(store), WeightsStore(str(tmp_path / "weights"), tmp_path / "cache"), settings)


async def test_a_jobs_release_is_found_among_many(store: redis.Redis) -> None:
    registry = ReleaseRegistry(store)
    wanted = await registry.create(
        "e", "d", job_id="wanted", validation={"ndcg": 0.5, "recall": 1, "mrr": 0.25, "cutoff": 20, "users": 3}
    )
    for number in range(105):
        await registry.create("e", "d", job_id=f"other-{number}")
    assert await release_of_job(registry, "wanted") == wanted
    assert await release_of_job(registry, "nobody") is None
    message = release_to_proto(wanted, wanted.release_id)
    assert (message.live, message.validation.ndcg, message.validation.cutoff, message.validation.users) == (True, 0.5, 20, 3)
    assert not release_to_proto(await registry.get("r2"), wanted.release_id).HasField("validation")
