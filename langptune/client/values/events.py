"""What happens in a training job, event by event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from langptune.client.values.metrics import RankingMetrics, metrics_from_proto
from langptune.client.values.training import JobState, job_state_from_proto
from langptune.v1 import trainer_pb2


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The job entered a state."""

    state: JobState
    message: str


@dataclass(frozen=True, slots=True)
class StepDone:
    """One batch of Algorithm 1."""

    phase: str  # "cl" or "rlso"
    outer_iteration: int
    step: int
    steps_total: int
    metrics: Mapping[str, float]  # by name, as docs/metrics.md defines them


@dataclass(frozen=True, slots=True)
class ValidationDone:
    """The models measured on validation users; label "before" is the parent release."""

    label: str
    metrics: RankingMetrics


@dataclass(frozen=True, slots=True)
class CandidateMade:
    """The job's release candidate is stored."""

    release_id: str


@dataclass(frozen=True, slots=True)
class GuardFired:
    """A figure of training has been beyond its limit for several updates."""

    guard: str  # the metric, as docs/metrics.md defines it
    value: float
    limit: float
    stops: bool  # the job is stopped for it; else it is a warning
    message: str


@dataclass(frozen=True, slots=True)
class TrainingEvent:
    """Something that happened in a job."""

    sequence: int  # from 1, without gaps
    time_ms: int
    event: StateChanged | StepDone | ValidationDone | CandidateMade | GuardFired


def training_event_from_proto(message: trainer_pb2.TrainingEvent) -> TrainingEvent:
    """Raises ValueError for a kind of event that this client is too old to know."""
    return TrainingEvent(message.sequence, message.time.ToMilliseconds(), _event(message))


def _event(
    message: trainer_pb2.TrainingEvent,
) -> StateChanged | StepDone | ValidationDone | CandidateMade | GuardFired:
    kind = message.WhichOneof("event")
    match kind:
        case "state_changed":
            return StateChanged(job_state_from_proto(message.state_changed.state), message.state_changed.message)
        case "step_done":
            step = message.step_done
            return StepDone(step.phase, step.outer_iteration, step.step, step.steps_total, dict(step.metrics))
        case "validation_done":
            return ValidationDone(message.validation_done.label, metrics_from_proto(message.validation_done.metrics))
        case "candidate_made":
            return CandidateMade(message.candidate_made.release_id)
        case "guard_fired":
            fired = message.guard_fired
            return GuardFired(fired.guard, fired.value, fired.limit, fired.stops, fired.message)
    raise ValueError(f"event {message.sequence} is of a kind that this client does not know")
