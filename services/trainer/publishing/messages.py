"""Releases, publishes, gate and checks as proto messages."""

from __future__ import annotations

from collections.abc import Mapping

from langptune.convert import timestamp
from langptune.v1 import common_pb2
from langptune.v1 import trainer_pb2 as pb
from langptune.weights import Move, Readability, Release
from services.trainer.publishing.gate import Finding, Verdict
from services.trainer.publishing.publication import Publication
from services.trainer.publishing.verification import Check


def release_to_proto(release: Release, live_id: str) -> pb.Release:
    return pb.Release(
        release_id=release.release_id,
        encoder_version=release.encoder_version,
        decoder_version=release.decoder_version,
        parent_release_id=release.parent_release_id,
        job_id=release.job_id,
        create_time=timestamp(release.create_time_ms),
        validation=_metrics(release.validation),
        live=release.release_id == live_id,
        retired=release.retired,
    )


def publication_to_proto(publication: Publication) -> pb.Publish:
    return pb.Publish(
        publish_id=publication.publish_id,
        release_id=publication.release_id,
        previous_release_id=publication.previous,
        step=pb.PublishStep.Value(f"PUBLISH_STEP_{publication.step.name}"),
        actor=publication.actor,
        reason=publication.reason,
        override_reason=publication.override_reason,
        verdict=_verdict(publication.verdict),
        start_time=timestamp(publication.start_ms),
        step_time=timestamp(publication.step_ms),
        error=publication.error,
    )


def move_to_proto(move: Move) -> pb.ReleaseMove:
    return pb.ReleaseMove(
        release_id=move.release_id,
        previous_release_id=move.previous,
        time=timestamp(move.at_ms),
        actor=move.why.actor,
        reason=move.why.reason,
        override_reason=move.why.override_reason,
        validation=_metrics(move.validation),
    )


def finding_to_proto(finding: Finding) -> pb.Gate:
    return pb.Gate(
        verdict=_verdict(finding.verdict),
        reasons=finding.reasons,
        live_release_id=finding.live_release_id,
        users=finding.users,
        live_ndcg=finding.live_ndcg,
        candidate_ndcg=finding.candidate_ndcg,
        p_worse=finding.p_worse,
        live_readability=_readability(finding.live_readability),
        candidate_readability=_readability(finding.candidate_readability),
    )


def check_to_proto(check: Check) -> pb.ReplicaCheck:
    return pb.ReplicaCheck(
        kind=check.kind,
        address=check.address,
        version=check.version,
        problems=check.problems,
        digest=check.found.digest,
        golden_log_prob=check.found.golden_log_prob,
        expected_log_prob=check.expected_log_prob,
        items=check.found.items,
        overlap=check.found.overlap,
    )


def _verdict(verdict: Verdict) -> pb.GateVerdict.ValueType:
    return pb.GateVerdict.Value(f"GATE_VERDICT_{verdict.name}")


def _readability(found: Readability | None) -> pb.ReadabilityMetrics | None:
    if found is None:
        return None
    return pb.ReadabilityMetrics(
        terminated=found.terminated, words=found.words, distinct_2=found.distinct_2, wordlike=found.wordlike
    )


def _metrics(values: Mapping[str, float]) -> common_pb2.RankingMetrics | None:
    if not values:
        return None
    return common_pb2.RankingMetrics(
        ndcg=values["ndcg"],
        recall=values["recall"],
        mrr=values["mrr"],
        cutoff=int(values["cutoff"]),
        users=int(values["users"]),
    )
