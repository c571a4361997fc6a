"""Training jobs: what is asked for, what it would take, how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from langptune.v1 import trainer_pb2


class ProfileSource(StrEnum):
    """What stands for the user in the decoder while it is trained."""

    PROFILE = "profile"
    HISTORY = "history"


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """What to train, on what, and how; None means the preset's value."""

    dataset_uri: str  # folder of a prepared data set that the trainer can read
    preset: str = ""  # "sample" if empty
    seed: int = 0
    outer_iterations: int | None = None  # K of Algorithm 1
    cl_batches: int | None = None  # J
    rlso_batches: int | None = None  # T
    final_cl_batches: int | None = None
    profile_source: ProfileSource | None = None
    parent_release_id: str = ""  # the live one if empty
    validation_users: int | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)  # other hyperparameters by name
    processes: int | None = None  # that train together, one to a GPU


@dataclass(frozen=True, slots=True)
class StageMemory:
    """Bytes in one process under one ZeRO stage."""

    zero_stage: int
    weights_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.gradient_bytes + self.optimizer_bytes + self.activation_bytes


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a job would take; of a model that does not learn all is 0."""

    resolved: Mapping[str, str]  # every hyperparameter by name
    encoder_parameters: int
    encoder_trainable_parameters: int
    decoder_parameters: int
    decoder_trainable_parameters: int
    memory: Sequence[StageMemory]  # of ZeRO stages 0 to 3
    tokens_per_update: int  # that an RLSO batch passes through the encoder, at most
    cl_updates: int
    rlso_updates: int
    total_flops: float
    estimated_seconds: float  # at the assumed rate, generation left out
    assumed_flops_per_second: float  # of one process


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """A training job as it stands."""

    job_id: str
    spec: TrainingSpec
    state: JobState
    error: str  # why it failed
    create_time_ms: int
    start_time_ms: int | None
    end_time_ms: int | None
    release_id: str  # the candidate that it made; empty until it has succeeded
    steps_done: int
    steps_total: int
    resolved: Mapping[str, str]  # all hyperparameters
    attempts: int  # starts of a worker so far
    restarts: int  # of these, after a worker had died, since the job was created or resumed
    last_interruption: str  # why a worker was last replaced or the job handed back; empty if that never happened


def training_spec_to_proto(spec: TrainingSpec) -> trainer_pb2.TrainingSpec:
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


def training_spec_from_proto(message: trainer_pb2.TrainingSpec) -> TrainingSpec:
    source = trainer_pb2.ProfileSource.Name(message.profile_source).removeprefix("PROFILE_SOURCE_").lower()
    return TrainingSpec(
        dataset_uri=message.dataset_uri,
        preset=message.preset,
        seed=message.seed,
        outer_iterations=message.outer_iterations if message.HasField("outer_iterations") else None,
        cl_batches=message.cl_batches if message.HasField("cl_batches") else None,
        rlso_batches=message.rlso_batches if message.HasField("rlso_batches") else None,
        final_cl_batches=message.final_cl_batches if message.HasField("final_cl_batches") else None,
        profile_source=ProfileSource(source) if source != "unspecified" else None,
        parent_release_id=message.parent_release_id,
        validation_users=message.validation_users if message.HasField("validation_users") else None,
        overrides=dict(message.overrides),
        processes=message.processes if message.HasField("processes") else None,
    )


def training_plan_from_proto(message: trainer_pb2.CreateTrainingJobResponse) -> TrainingPlan:
    plan = message.plan
    stages = [
        StageMemory(
            zero_stage=stage.zero_stage,
            weights_bytes=stage.weights_bytes,
            gradient_bytes=stage.gradient_bytes,
            optimizer_bytes=stage.optimizer_bytes,
            activation_bytes=stage.activation_bytes,
        )
        for stage in plan.memory
    ]
    return TrainingPlan(
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


def training_job_from_proto(message: trainer_pb2.TrainingJob) -> TrainingJob:
    return TrainingJob(
        job_id=message.job_id,
        spec=training_spec_from_proto(message.spec),
        state=job_state_from_proto(message.state),
        error=message.error,
        create_time_ms=message.create_time.ToMilliseconds(),
        start_time_ms=message.start_time.ToMilliseconds() if message.HasField("start_time") else None,
        end_time_ms=message.end_time.ToMilliseconds() if message.HasField("end_time") else None,
        release_id=message.release_id,
        steps_done=message.steps_done,
        steps_total=message.steps_total,
        resolved=dict(message.resolved),
        attempts=message.attempts,
        restarts=message.restarts,
        last_interruption=message.last_interruption,
    )


def job_state_from_proto(state: trainer_pb2.JobState.ValueType) -> JobState:
    return JobState(trainer_pb2.JobState.Name(state).removeprefix("JOB_STATE_").lower())
