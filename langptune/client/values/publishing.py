"""Publishes, the gate before them and what is deployed after; the words are those of trainer.proto."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from langptune.client.values.releases import Release
from langptune.v1 import trainer_pb2


class PublishStep(StrEnum):
    """How far a publish is; up to FLIP the release before is live."""

    LOAD = "load"
    VERIFY = "verify"
    FLIP = "flip"
    DRAIN = "drain"
    RETIRE = "retire"
    DONE = "done"
    FAILED = "failed"


class GateVerdict(StrEnum):
    """What the gate says of a release; CLOSED and UNKNOWN need an override."""

    UNSPECIFIED = "unspecified"
    OPEN = "open"
    CLOSED = "closed"
    UNKNOWN = "unknown"
    EXEMPT = "exempt"


@dataclass(frozen=True, slots=True)
class Publish:
    """The record of a publish or rollback."""

    publish_id: str
    release_id: str
    previous_release_id: str
    step: PublishStep
    actor: str
    reason: str
    override_reason: str
    verdict: GateVerdict
    start_time_ms: int
    step_time_ms: int
    error: str  # why it failed


@dataclass(frozen=True, slots=True)
class Published:
    """The release that is live now, and what was live before."""

    release: Release
    previous_release_id: str
    publish: Publish


@dataclass(frozen=True, slots=True)
class ReadabilityMetrics:
    """Means over profiles, as docs/metrics.md defines them."""

    terminated: float
    words: float
    distinct_2: float
    wordlike: float


@dataclass(frozen=True, slots=True)
class Gate:
    """A candidate held against the live release."""

    verdict: GateVerdict
    reasons: tuple[str, ...]
    live_release_id: str
    users: int
    live_ndcg: float
    candidate_ndcg: float
    p_worse: float
    live_readability: ReadabilityMetrics | None
    candidate_readability: ReadabilityMetrics | None


@dataclass(frozen=True, slots=True)
class ReplicaCheck:
    """One replica, and whether it holds what was published."""

    kind: str  # "encoder" or "decoder"
    address: str
    version: str
    problems: tuple[str, ...]
    digest: str  # "" for a base version
    golden_log_prob: float | None  # nats; encoder only
    expected_log_prob: float | None  # None for a base version
    items: int  # decoder only
    overlap: float | None  # decoder only


@dataclass(frozen=True, slots=True)
class Verified:
    """A release, and every replica held against it."""

    release: Release
    verified: bool  # no replica has a problem
    replicas: tuple[ReplicaCheck, ...]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What lost its weights."""

    release_ids: tuple[str, ...]
    encoder_versions: tuple[str, ...]
    decoder_versions: tuple[str, ...]


def publish_from_proto(message: trainer_pb2.Publish) -> Publish:
    return Publish(
        publish_id=message.publish_id,
        release_id=message.release_id,
        previous_release_id=message.previous_release_id,
        step=PublishStep(trainer_pb2.PublishStep.Name(message.step).removeprefix("PUBLISH_STEP_").lower()),
        actor=message.actor,
        reason=message.reason,
        override_reason=message.override_reason,
        verdict=_verdict(message.verdict),
        start_time_ms=message.start_time.ToMilliseconds(),
        step_time_ms=message.step_time.ToMilliseconds(),
        error=message.error,
    )


def gate_from_proto(message: trainer_pb2.Gate) -> Gate:
    was, now = message.live_readability, message.candidate_readability
    return Gate(
        verdict=_verdict(message.verdict),
        reasons=tuple(message.reasons),
        live_release_id=message.live_release_id,
        users=message.users,
        live_ndcg=message.live_ndcg,
        candidate_ndcg=message.candidate_ndcg,
        p_worse=message.p_worse,
        live_readability=_readability(was) if message.HasField("live_readability") else None,
        candidate_readability=_readability(now) if message.HasField("candidate_readability") else None,
    )


def replica_check_from_proto(message: trainer_pb2.ReplicaCheck) -> ReplicaCheck:
    return ReplicaCheck(
        kind=message.kind,
        address=message.address,
        version=message.version,
        problems=tuple(message.problems),
        digest=message.digest,
        golden_log_prob=message.golden_log_prob if message.HasField("golden_log_prob") else None,
        expected_log_prob=message.expected_log_prob if message.HasField("expected_log_prob") else None,
        items=message.items,
        overlap=message.overlap if message.HasField("overlap") else None,
    )


def pruned_from_proto(message: trainer_pb2.PruneReleasesResponse) -> Pruned:
    return Pruned(tuple(message.release_ids), tuple(message.encoder_versions), tuple(message.decoder_versions))


def _verdict(value: trainer_pb2.GateVerdict.ValueType) -> GateVerdict:
    return GateVerdict(trainer_pb2.GateVerdict.Name(value).removeprefix("GATE_VERDICT_").lower())


def _readability(message: trainer_pb2.ReadabilityMetrics) -> ReadabilityMetrics:
    return ReadabilityMetrics(message.terminated, message.words, message.distinct_2, message.wordlike)
