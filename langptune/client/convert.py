"""Values of the client to and from proto messages; nothing is checked here, the service has done so or will."""

from __future__ import annotations

import time
from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from langptune.client import values
from langptune.client.releases import ReleaseMove
from langptune.convert import item_from_catalogue, timestamp
from langptune.domain import Interaction
from langptune.v1 import common_pb2, gateway_pb2, trainer_pb2


def interaction(message: common_pb2.Interaction) -> Interaction:
    """An interaction with its item whole."""
    return Interaction(item_from_catalogue(message.item), message.rating, message.review, message.time.ToMilliseconds())


def new_interaction(entry: Interaction | values.NewInteraction, *, stamped: bool = True) -> common_pb2.Interaction:
    """An interaction to be recorded: of its item only the id is sent. One without a time is of now, by our clock if `stamped`."""
    item_id = entry.item.item_id if isinstance(entry, Interaction) else entry.item_id
    message = common_pb2.Interaction(item=common_pb2.Item(item_id=item_id), rating=entry.rating, review=entry.review)
    if entry.time_ms is not None or stamped:
        time_ms = time.time_ns() // 1_000_000 if entry.time_ms is None else entry.time_ms
        message.time.CopyFrom(timestamp(time_ms))
    return message


def recommendation(message: gateway_pb2.RecommendResponse) -> values.Recommendation:
    return values.Recommendation(
        items=tuple(values.RankedItem(item_from_catalogue(place.item), place.position, place.score) for place in message.items),
        basis=values.RankingBasis(_short(gateway_pb2.RankingBasis.Name(message.basis), "RANKING_BASIS_")),
        basis_reason=message.basis_reason,
        versions=versions(message.versions),
        profile_revision=message.profile_revision,
        reasons=tuple(values.Reason(each.sentence, each.contribution) for each in message.reasons),
    )


def versions(message: common_pb2.Versions) -> values.Versions:
    return values.Versions(message.encoder_version, message.decoder_version, message.release_id)


def profile(message: gateway_pb2.Profile) -> values.Profile:
    return values.Profile(
        user_id=message.user_id,
        text=message.text,
        revision=message.revision,
        etag=message.etag,
        origin=values.ProfileOrigin(_short(gateway_pb2.ProfileOrigin.Name(message.origin), "PROFILE_ORIGIN_")),
        versions=versions(message.versions),
        create_time_ms=_time(message.create_time),
        interactions=message.interactions,
    )


def profile_page(message: gateway_pb2.GetProfileResponse) -> values.ProfilePage:
    marks = {
        each.sentence: values.SentenceMark(_short(gateway_pb2.SentenceMark.Name(each.mark), "SENTENCE_MARK_"))
        for each in message.marks
    }
    suggestion = _suggestion(message.suggestion) if message.HasField("suggestion") else None
    return values.ProfilePage(
        profile(message.profile),
        suggestion,
        marks,
        avoid=tuple(message.avoid),
        new_interactions=message.new_interactions,
        refresh_pending=message.refresh_pending,
    )


def profile_evidence(message: gateway_pb2.ExplainProfileResponse) -> values.ProfileEvidence:
    return values.ProfileEvidence(
        revision=message.revision,
        sentences=tuple(map(_sentence_evidence, message.sentences)),
        basis=values.EvidenceBasis(_short(gateway_pb2.EvidenceBasis.Name(message.basis), "EVIDENCE_BASIS_")),
        interactions=message.interactions,
        missing_interactions=message.missing_interactions,
        threshold=message.threshold,
        versions=versions(message.versions),
    )


def _sentence_evidence(message: gateway_pb2.SentenceEvidence) -> values.SentenceEvidence:
    support = tuple(values.Support(interaction(each.interaction), each.score) for each in message.support)
    return values.SentenceEvidence(
        message.sentence, support, message.nearest_score if message.HasField("nearest_score") else None
    )


def item_filter_to_proto(where: values.ItemFilter) -> common_pb2.ItemFilter:
    return common_pb2.ItemFilter(all=map(_condition_to_proto, where.all), none=map(_condition_to_proto, where.none))


def _condition_to_proto(condition: values.Condition) -> common_pb2.ItemCondition:
    match condition:
        case values.AnyOf(field, texts):
            return common_pb2.ItemCondition(field=field, any_of=common_pb2.TextSet(values=texts))
        case values.Between(field, low, high):
            return common_pb2.ItemCondition(field=field, range=common_pb2.NumberRange(min=low, max=high))
        case values.Flag(field, flag):
            return common_pb2.ItemCondition(field=field, flag=flag)


def _suggestion(message: gateway_pb2.ProfileSuggestion) -> values.ProfileSuggestion:
    return values.ProfileSuggestion(message.text, versions(message.versions), _time(message.create_time), message.interactions)


def diff_part(message: gateway_pb2.DiffPart) -> values.DiffPart:
    return values.DiffPart(values.DiffKind(_short(gateway_pb2.DiffKind.Name(message.kind), "DIFF_KIND_")), message.text)


def preview(message: gateway_pb2.PreviewResponse) -> values.Preview:
    return values.Preview(
        items=tuple(map(_previewed, message.items)),
        leaving=tuple(map(_previewed, message.leaving)),
        basis=values.RankingBasis(_short(gateway_pb2.RankingBasis.Name(message.basis), "RANKING_BASIS_")),
        versions=versions(message.versions),
        profile_revision=message.profile_revision,
    )


def _previewed(message: gateway_pb2.PreviewedItem) -> values.PreviewedItem:
    item = item_from_catalogue(message.item)
    return values.PreviewedItem(item, message.position, message.previous_position, message.score)


def rejections(messages: Iterable[common_pb2.Rejection]) -> tuple[values.Rejection, ...]:
    return tuple(values.Rejection(each.index, each.id, each.field, each.reason) for each in messages)


def training_spec_to_proto(spec: values.TrainingSpec) -> trainer_pb2.TrainingSpec:
    source = f"PROFILE_SOURCE_{spec.profile_source.name if spec.profile_source else 'UNSPECIFIED'}"
    return trainer_pb2.TrainingSpec(
        dataset_uri=spec.dataset_uri,
        preset=spec.preset,
        seed=spec.seed,
        outer_iterations=spec.outer_iterations,
        cl_batches=spec.cl_batches,
        rlso_batches=spec.rlso_batches,
        final_cl_batches=spec.final_cl_batches,
        profile_source=trainer_pb2.ProfileSource.Value(source),
        parent_release_id=spec.parent_release_id,
        validation_users=spec.validation_users,
        overrides=spec.overrides,
        processes=spec.processes,
    )


def training_plan(message: trainer_pb2.CreateTrainingJobResponse) -> values.TrainingPlan:
    plan = message.plan
    stages = [
        values.StageMemory(
            zero_stage=stage.zero_stage,
            weights_bytes=stage.weights_bytes,
            gradient_bytes=stage.gradient_bytes,
            optimizer_bytes=stage.optimizer_bytes,
            activation_bytes=stage.activation_bytes,
        )
        for stage in plan.memory
    ]
    return values.TrainingPlan(
        resolved=dict(message.job.resolved),
        encoder_parameters=plan.encoder_parameters,
        encoder_trainable_parameters=plan.encoder_trainable_parameters,
        decoder_parameters=plan.decoder_parameters,
        decoder_trainable_parameters=plan.decoder_trainable_parameters,
        memory=stages,
        tokens_per_update=plan.tokens_per_update,
        cl_updates=plan.cl_updates,
        rlso_updates=plan.rlso_updates,
        total_flops=plan.total_flops,
        estimated_seconds=plan.estimated_seconds,
        assumed_flops_per_second=plan.assumed_flops_per_second,
    )


def training_spec(message: trainer_pb2.TrainingSpec) -> values.TrainingSpec:
    source = _short(trainer_pb2.ProfileSource.Name(message.profile_source), "PROFILE_SOURCE_")
    return values.TrainingSpec(
        dataset_uri=message.dataset_uri,
        preset=message.preset,
        seed=message.seed,
        outer_iterations=message.outer_iterations if message.HasField("outer_iterations") else None,
        cl_batches=message.cl_batches if message.HasField("cl_batches") else None,
        rlso_batches=message.rlso_batches if message.HasField("rlso_batches") else None,
        final_cl_batches=message.final_cl_batches if message.HasField("final_cl_batches") else None,
        profile_source=values.ProfileSource(source) if source != "unspecified" else None,
        parent_release_id=message.parent_release_id,
        validation_users=message.validation_users if message.HasField("validation_users") else None,
        overrides=dict(message.overrides),
        processes=message.processes if message.HasField("processes") else None,
    )


def training_job(message: trainer_pb2.TrainingJob) -> values.TrainingJob:
    return values.TrainingJob(
        job_id=message.job_id,
        spec=training_spec(message.spec),
        state=_job_state(message.state),
        error=message.error,
        create_time_ms=_time(message.create_time),
        start_time_ms=_time(message.start_time) if message.HasField("start_time") else None,
        end_time_ms=_time(message.end_time) if message.HasField("end_time") else None,
        release_id=message.release_id,
        steps_done=message.steps_done,
        steps_total=message.steps_total,
        resolved=dict(message.resolved),
        attempts=message.attempts,
        restarts=message.restarts,
        last_interruption=message.last_interruption,
    )


def training_event(message: trainer_pb2.TrainingEvent) -> values.TrainingEvent:
    """Raises ValueError for a kind of event that this client is too old to know."""
    return values.TrainingEvent(message.sequence, _time(message.time), _event(message))


def _event(
    message: trainer_pb2.TrainingEvent,
) -> values.StateChanged | values.StepDone | values.ValidationDone | values.CandidateMade | values.GuardFired:
    kind = message.WhichOneof("event")
    match kind:
        case "state_changed":
            return values.StateChanged(_job_state(message.state_changed.state), message.state_changed.message)
        case "step_done":
            step = message.step_done
            return values.StepDone(step.phase, step.outer_iteration, step.step, step.steps_total, dict(step.metrics))
        case "validation_done":
            return values.ValidationDone(message.validation_done.label, metrics(message.validation_done.metrics))
        case "candidate_made":
            return values.CandidateMade(message.candidate_made.release_id)
        case "guard_fired":
            fired = message.guard_fired
            return values.GuardFired(fired.guard, fired.value, fired.limit, fired.stops, fired.message)
    raise ValueError(f"event {message.sequence} is of a kind that this client does not know")


def metrics(message: common_pb2.RankingMetrics) -> values.RankingMetrics:
    return values.RankingMetrics(message.ndcg, message.recall, message.mrr, message.cutoff, message.users)


def release(message: trainer_pb2.Release) -> values.Release:
    return values.Release(
        release_id=message.release_id,
        encoder_version=message.encoder_version,
        decoder_version=message.decoder_version,
        parent_release_id=message.parent_release_id,
        job_id=message.job_id,
        create_time_ms=_time(message.create_time),
        validation=metrics(message.validation) if message.HasField("validation") else None,
        live=message.live,
        retired=message.retired,
    )


def release_move(message: trainer_pb2.ReleaseMove) -> ReleaseMove:
    return ReleaseMove(
        release_id=message.release_id,
        previous_release_id=message.previous_release_id,
        time_ms=_time(message.time),
        actor=message.actor,
        reason=message.reason,
        override_reason=message.override_reason,
        validation=metrics(message.validation) if message.HasField("validation") else None,
    )


def _job_state(state: trainer_pb2.JobState.ValueType) -> values.JobState:
    return values.JobState(_short(trainer_pb2.JobState.Name(state), "JOB_STATE_"))


def _time(stamp: Timestamp) -> int:
    return stamp.ToMilliseconds()


def _short(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()
