"""A training job as a value: what was asked, where it stands, and the sentences and events that tell of it.

    QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED;   QUEUED | FAILED -> CANCELLED
    RUNNING -> QUEUED (the worker died or was told to stop: it goes on from its checkpoint);   FAILED -> QUEUED (resumed)

Where jobs are kept is `jobs`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from langptune.convert import timestamp
from langptune.v1 import trainer_pb2

State: TypeAlias = trainer_pb2.JobState.ValueType
QUEUED = trainer_pb2.JOB_STATE_QUEUED
RUNNING = trainer_pb2.JOB_STATE_RUNNING
SUCCEEDED = trainer_pb2.JOB_STATE_SUCCEEDED
FAILED = trainer_pb2.JOB_STATE_FAILED
CANCELLED = trainer_pb2.JOB_STATE_CANCELLED
ENDED = frozenset({SUCCEEDED, FAILED, CANCELLED})


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands in the table."""

    job_id: str
    spec: trainer_pb2.TrainingSpec  # as the caller gave it
    later_overrides: Mapping[str, str]  # given when it was resumed; they win over those of `spec`
    resolved: Mapping[str, str]
    parent_release_id: str  # the release that it starts from
    state: State
    error: str
    create_time_ms: int
    start_time_ms: int  # 0 before the first start
    end_time_ms: int  # 0 before the end
    release_id: str
    steps_done: int
    steps_total: int
    attempt: int  # starts of a worker so far
    restarts: int  # of these, after a worker had died, since the job was created or resumed
    last_interruption: str  # why another attempt was needed, "" if none was
    cancel_requested: bool
    heartbeat_ms: int  # the worker's last sign of life

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    def effective_spec(self) -> trainer_pb2.TrainingSpec:
        """What is trained now: `spec` with the later overrides."""
        spec = trainer_pb2.TrainingSpec()
        spec.CopyFrom(self.spec)
        spec.overrides.update(self.later_overrides)
        return spec

    def to_proto(self) -> trainer_pb2.TrainingJob:
        """The public view."""
        return trainer_pb2.TrainingJob(
            job_id=self.job_id,
            spec=self.spec,
            state=self.state,
            error=self.error,
            create_time=timestamp(self.create_time_ms),
            start_time=timestamp(self.start_time_ms) if self.start_time_ms else None,
            end_time=timestamp(self.end_time_ms) if self.end_time_ms else None,
            release_id=self.release_id,
            steps_done=self.steps_done,
            steps_total=self.steps_total,
            resolved=self.resolved,
            attempts=self.attempt,
            restarts=self.restarts,
            last_interruption=self.last_interruption,
        )


def stored_job(job_id: str, stored: Mapping[bytes, bytes]) -> Job:
    """From the fields of its hash."""

    def text(name: str) -> str:
        return stored.get(name.encode(), b"").decode()

    def number(name: str) -> int:
        return int(stored.get(name.encode(), b"0"))

    return Job(
        job_id=job_id,
        spec=trainer_pb2.TrainingSpec.FromString(stored[b"spec"]),
        later_overrides=json.loads(text("later_overrides") or "{}"),
        resolved=json.loads(stored[b"resolved"]),
        parent_release_id=text("parent_release_id"),
        state=trainer_pb2.JobState.ValueType(number("state")),
        error=text("error"),
        create_time_ms=number("create_time_ms"),
        start_time_ms=number("start_time_ms"),
        end_time_ms=number("end_time_ms"),
        release_id=text("release_id"),
        steps_done=number("steps_done"),
        steps_total=number("steps_total"),
        attempt=number("attempt"),
        restarts=number("restarts"),
        last_interruption=text("last_interruption"),
        cancel_requested=number("cancel") == 1,
        heartbeat_ms=number("heartbeat_ms"),
    )


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def state_name(state: State) -> str:
    """ "queued", "running" and so on."""
    return trainer_pb2.JobState.Name(state).removeprefix("JOB_STATE_").lower()


def state_event(state: State, message: str) -> trainer_pb2.TrainingEvent:
    """The event that tells of a change of state."""
    return trainer_pb2.TrainingEvent(state_changed=trainer_pb2.StateChanged(state=state, message=message))
