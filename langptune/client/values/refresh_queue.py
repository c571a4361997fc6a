"""The queue of profiles to be written again, as operators see it."""

from __future__ import annotations

from dataclasses import dataclass

from langptune.v1 import refresh_pb2


@dataclass(frozen=True, slots=True)
class RefreshQueueDepth:
    """How many profiles are to be written again, and for how long they have waited."""

    queued: int
    running: int
    delayed: int  # have failed and wait for their next attempt
    dead: int  # were given up
    lag: float  # seconds; age of the oldest that is queued or running


@dataclass(frozen=True, slots=True)
class DeadRefresh:
    """A refresh that was given up."""

    user_id: str
    code: str  # name of the gRPC status of the last failure
    message: str
    attempts: int
    time_ms: int


def depth_from_proto(message: refresh_pb2.GetRefreshQueueResponse) -> RefreshQueueDepth:
    lag = message.lag.ToMilliseconds() / 1_000
    return RefreshQueueDepth(message.queued, message.running, message.delayed, message.dead, lag)


def dead_refresh_from_proto(message: refresh_pb2.DeadRefresh) -> DeadRefresh:
    return DeadRefresh(message.user_id, message.code, message.message, message.attempts, message.time.ToMilliseconds())
