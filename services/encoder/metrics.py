"""The encoder's metrics, each defined in docs/operations.md. Counts are taken where things happen; state is read at a scrape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from services.encoder.engines.port import Engine, RolloutGroup

Traffic = Literal["live", "rollouts"]

PROMPT_TOKENS = Counter("langptune_encoder_prompt_tokens", "Tokens of the prompts that were answered.", ["traffic"])
PROFILE_TOKENS = Counter("langptune_encoder_profile_tokens", "Tokens that were written, end tokens included.", ["traffic"])
PROFILES = Counter("langptune_encoder_profiles", "Profiles that were written to their end.", ["traffic", "finish_reason"])
REJECTED = Counter("langptune_encoder_rejected", "Calls that were refused because all places were taken.")
QUEUE_SECONDS = Histogram(
    "langptune_encoder_queue_seconds",
    "From a prompt's arrival to its place in the running batch.",
    ["traffic"],
    buckets=(0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0),
)
BATCH_ROWS = Histogram(
    "langptune_encoder_batch_rows",
    "Profiles that get a token in one pass of the model.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)

_TRAFFIC: tuple[Traffic, Traffic] = ("live", "rollouts")
for _traffic in _TRAFFIC:  # series from the start, so that a rate has a first point
    QUEUE_SECONDS.labels(_traffic)
    for _counter in (PROMPT_TOKENS, PROFILE_TOKENS):
        _counter.labels(_traffic)
    for _reason in ("stop", "length"):
        PROFILES.labels(_traffic, _reason)


def count(group: RolloutGroup, traffic: Traffic) -> RolloutGroup:
    """Count what was written about one history; returns it."""
    PROMPT_TOKENS.labels(traffic).inc(len(group.prompt_token_ids))
    for rollout in group.rollouts:
        PROFILE_TOKENS.labels(traffic).inc(len(rollout.token_ids))
        PROFILES.labels(traffic, rollout.finish_reason).inc()
    return group


def state(engine: Engine | None) -> Iterator[Metric]:
    """What an engine does now; nothing before there is one."""
    if engine is None:
        return
    now = engine.occupancy()
    queued = GaugeMetricFamily("langptune_encoder_queued_prompts", "Prompts that wait for room in the batch.", labels=["traffic"])
    for traffic, waiting in zip(_TRAFFIC, now.queued, strict=True):
        queued.add_metric([traffic], waiting)
    yield queued
    yield GaugeMetricFamily("langptune_encoder_running_rows", "Profiles that are being written.", value=now.rows)
    yield GaugeMetricFamily("langptune_encoder_calls", "Calls that run or wait in the engine.", value=now.calls)
    yield GaugeMetricFamily(
        "langptune_encoder_resident_versions", "Weights versions that can be used at once.", value=len(engine.versions())
    )
