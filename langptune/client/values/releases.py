"""Releases, and every move of the live pointer."""

from __future__ import annotations

from dataclasses import dataclass

from langptune.client.values.metrics import RankingMetrics, metrics_from_proto
from langptune.v1 import trainer_pb2


@dataclass(frozen=True, slots=True)
class Release:
    """A pair of weights versions that can be made live."""

    release_id: str
    encoder_version: str
    decoder_version: str
    parent_release_id: str
    job_id: str
    create_time_ms: int
    validation: RankingMetrics | None  # None for a release that was never measured
    live: bool
    retired: bool = False  # its weights have been removed


@dataclass(frozen=True, slots=True)
class ReleaseMove:
    """The live pointer moved."""

    release_id: str
    previous_release_id: str
    time_ms: int
    actor: str
    reason: str
    override_reason: str
    validation: RankingMetrics | None


def release_from_proto(message: trainer_pb2.Release) -> Release:
    return Release(
        release_id=message.release_id,
        encoder_version=message.encoder_version,
        decoder_version=message.decoder_version,
        parent_release_id=message.parent_release_id,
        job_id=message.job_id,
        create_time_ms=message.create_time.ToMilliseconds(),
        validation=metrics_from_proto(message.validation) if message.HasField("validation") else None,
        live=message.live,
        retired=message.retired,
    )


def release_move_from_proto(message: trainer_pb2.ReleaseMove) -> ReleaseMove:
    return ReleaseMove(
        release_id=message.release_id,
        previous_release_id=message.previous_release_id,
        time_ms=message.time.ToMilliseconds(),
        actor=message.actor,
        reason=message.reason,
        override_reason=message.override_reason,
        validation=metrics_from_proto(message.validation) if message.HasField("validation") else None,
    )
