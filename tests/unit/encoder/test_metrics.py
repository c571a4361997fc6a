"""What the encoder counts: tokens and endings of what it wrote, by traffic; what waits and runs; what it refused."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY

from langptune.errors import ResourceExhausted
from services.encoder import metrics
from services.encoder.engines.admission import Admission
from services.encoder.engines.port import Options, Rollout, RolloutGroup, Work
from services.encoder.engines.transformers import TransformersEngine
from tests.support.micro_writer import interaction


def _value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_tokens_and_endings_by_traffic() -> None:
    """A prompt of 3 tokens and two profiles of 2 and 4: 3 in, 6 out, one ended and one cut off."""
    rollouts = [Rollout("a", (1, 2), (-1.0, -1.0), "stop"), Rollout("b", (1, 2, 3, 4), (-1.0,) * 4, "length")]
    group = RolloutGroup(0, (7, 8, 9), rollouts, 1.0)
    names = ("langptune_encoder_prompt_tokens_total", "langptune_encoder_profile_tokens_total")
    before = [_value(name, traffic="rollouts") for name in names]
    ended = _value("langptune_encoder_profiles_total", traffic="rollouts", finish_reason="length")
    assert metrics.count(group, "rollouts") is group
    after = [_value(name, traffic="rollouts") for name in names]
    assert [late - early for late, early in zip(after, before, strict=True)] == [3.0, 6.0]
    assert _value("langptune_encoder_profiles_total", traffic="rollouts", finish_reason="length") == ended + 1.0


def test_a_refusal_is_counted() -> None:
    admission = Admission(1, 0.5)
    before = _value("langptune_encoder_rejected_total")
    with admission.place(), pytest.raises(ResourceExhausted), admission.place():
        pass
    assert _value("langptune_encoder_rejected_total") == before + 1.0
    assert admission.taken == 0


async def test_an_engine_tells_what_waits_and_runs(engine: TransformersEngine, base_version: str) -> None:
    """Eight rows of room, seven of them for rollouts: of five histories with four samples, one runs and four wait."""
    await engine.start(base_version)
    histories = [[interaction(f"Title {number}")] for number in range(5)]
    rollouts = engine.sample_rollouts(Work(base_version, histories, "books", Options(400, 1.0, 1), 4))
    first = asyncio.ensure_future(anext(rollouts))
    occupied = engine.occupancy()
    for _ in range(400):
        occupied = engine.occupancy()
        if occupied.rows:
            break
        await asyncio.sleep(0.01)
    told = {family.name: family for family in metrics.state(engine)}
    assert occupied.calls == 1
    assert 1 <= occupied.rows <= 4
    assert occupied.queued[0] == 0
    assert occupied.queued[1] >= 1
    assert set(told) >= {"langptune_encoder_queued_prompts", "langptune_encoder_running_rows", "langptune_encoder_calls"}
    await first
    await rollouts.aclose()
    assert engine.occupancy().calls == 0
    assert _value("langptune_encoder_batch_rows_count") > 0
