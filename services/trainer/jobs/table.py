"""The job table (Redis): what was asked, how far it is, and everything that happened, readable at any time.

    langptune:job:<id>           hash: the spec, state, times, steps, attempt, cancel flag, sign of life
    langptune:job:<id>:events    stream: one TrainingEvent per entry, its sequence number is the entry's id
    langptune:jobs               sorted set: job ids in order of creation;   langptune:jobs:open: those that have not ended

Every start of a worker is an *attempt* with a number of its own. A write that names an attempt which is no longer the job's is
refused (Superseded), so a worker that was given up for dead cannot disturb the one that took its place. Each write is one
Lua script: the state and the event that tells of it change together. Who runs what when is not known here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import redis.asyncio as redis

from langptune.convert import timestamp
from langptune.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from langptune.v1 import trainer_pb2
from services.trainer.jobs.job import (
    CANCELLED,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Job,
    State,
    now_ms,
    state_event,
    state_name,
    stored_job,
)

_JOB = "langptune:job:{}"
_EVENTS = "langptune:job:{}:events"
_ORDER = "langptune:jobs"
_OPEN = "langptune:jobs:open"
_COUNTER = "langptune:job-counter"

_CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local number = redis.call('INCR', KEYS[5])
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('ZADD', KEYS[3], number, ARGV[1])
redis.call('ZADD', KEYS[4], number, ARGV[1])
redis.call('XADD', KEYS[2], '1-0', 'event', ARGV[2])
return 1
"""

# ARGV: job id, allowed attempt ('' for any), allowed states (',4,1,'), event ('' for none), then fields and values.
# Returns 0 when done, 1 for another attempt, 2 for another state.
_WRITE = """
local state = redis.call('HGET', KEYS[1], 'state')
local attempt = redis.call('HGET', KEYS[1], 'attempt')
if ARGV[2] ~= '' and ARGV[2] ~= attempt then return 1 end
if not state or not string.find(ARGV[3], ',' .. state .. ',', 1, true) then return 2 end
if #ARGV > 4 then redis.call('HSET', KEYS[1], unpack(ARGV, 5)) end
if ARGV[4] ~= '' then redis.call('XADD', KEYS[2], (redis.call('XLEN', KEYS[2]) + 1) .. '-0', 'event', ARGV[4]) end
if redis.call('HGET', KEYS[1], 'end_time_ms') ~= '0' then redis.call('ZREM', KEYS[3], ARGV[1])
else redis.call('ZADD', KEYS[3], redis.call('ZSCORE', KEYS[4], ARGV[1]), ARGV[1]) end
return 0
"""


class Superseded(Exception):
    """Another attempt at the job has been started, or the job has ended: this one has nothing more to say."""


class JobTable:
    """All jobs. Methods raise redis errors as they are; the server's interceptor and `patiently` know them."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._create = client.register_script(_CREATE)
        self._write = client.register_script(_WRITE)

    async def create(
        self,
        job_id: str,
        spec: trainer_pb2.TrainingSpec,
        *,
        resolved: Mapping[str, str],
        parent_release_id: str,
        steps_total: int,
    ) -> Job:
        """A new QUEUED job, or the one that is there under this id with this spec. Raises AlreadyExists for another spec."""
        fields: dict[str, str | bytes | int] = {
            "spec": spec.SerializeToString(deterministic=True),
            "resolved": json.dumps(dict(resolved)),
            "parent_release_id": parent_release_id,
            "state": QUEUED,
            "create_time_ms": now_ms(),
            "end_time_ms": 0,
            "steps_total": steps_total,
            "attempt": 0,
        }
        keys = [_JOB.format(job_id), _EVENTS.format(job_id), _ORDER, _OPEN, _COUNTER]
        await self._create(keys, [job_id, _packed(state_event(QUEUED, "")), *_pairs(fields)])
        return await self.same(job_id, spec)

    async def same(self, job_id: str, spec: trainer_pb2.TrainingSpec) -> Job:
        """The job under this id if it was made from this spec. Raises NotFound and AlreadyExists."""
        job = await self.get(job_id)
        if job.spec != spec:
            raise AlreadyExists(
                f"job {job_id!r} exists with another spec",
                reason="OTHER_SPEC",
                metadata={"resource": "training job", "id": job_id},
            )
        return job

    async def get(self, job_id: str) -> Job:
        """Raises NotFound."""
        stored: Any = await self._redis.hgetall(_JOB.format(job_id))
        if not stored:
            raise NotFound("training job", job_id)
        return stored_job(job_id, stored)

    async def page(self, size: int, page_token: str = "") -> tuple[list[Job], str]:
        """Up to `size` jobs, newest first, and the next page's token ("" on the last). Raises InvalidArgument: page_token."""
        if page_token and not (page_token.isascii() and page_token.isdigit()):
            raise InvalidArgument("page_token", "is not one that ListTrainingJobs gave")
        last = f"({page_token}" if page_token else "+inf"
        found: Any = await self._redis.zrange(
            _ORDER, last, "-inf", byscore=True, desc=True, offset=0, num=size + 1, withscores=True
        )
        jobs = [await self.get(job_id.decode()) for job_id, _ in found[:size]]
        return jobs, str(int(found[size - 1][1])) if len(found) > size else ""

    async def count_by_state(self) -> dict[str, int]:
        """How many jobs there are of each state: "queued", "running" and so on; one round trip for all."""
        job_ids: Any = await self._redis.zrange(_ORDER, 0, -1)
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(_JOB.format(job_id.decode()), "state")
            states: Any = await pipe.execute()
        counts = Counter(int(state) for state in states)
        return {state_name(state): counts[state] for state in (QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED)}

    async def open_jobs(self) -> list[Job]:
        """The jobs that have not ended, oldest first."""
        job_ids: Any = await self._redis.zrange(_OPEN, 0, -1)
        return [await self.get(job_id.decode()) for job_id in job_ids]

    async def events(self, job_id: str, after: int, *, wait_ms: int = 0) -> list[trainer_pb2.TrainingEvent]:
        """Events after sequence number `after`, at most 1,000; when there is none yet, waits up to `wait_ms` for one."""
        key = _EVENTS.format(job_id)
        answer: Any = await self._redis.xread({key: f"{after}-0"}, count=1_000, block=wait_ms or None)
        entries = answer.get(key.encode(), [[]])[0] if isinstance(answer, dict) else (answer[0][1] if answer else [])
        return [_event(identifier, fields) for identifier, fields in entries]

    async def request_cancel(self, job_id: str) -> Job:
        """Cancel a job that waits or has failed, or set the flag that a running one looks at.

        Raises NotFound, and FailedPrecondition when it has succeeded.
        """
        idle = await self._move(job_id, "", (QUEUED, FAILED), state_event(CANCELLED, "cancelled"), _end(CANCELLED))
        if not idle:
            await self._move(job_id, "", (RUNNING,), None, {"cancel": 1})
        job = await self.get(job_id)
        if job.state == SUCCEEDED:
            raise FailedPrecondition(f"job {job_id!r} has succeeded", reason="JOB_ENDED")
        return job

    async def resume(self, job_id: str, overrides: Mapping[str, str], resolved: Mapping[str, str]) -> Job:
        """FAILED -> QUEUED, with all restarts before it again. Raises NotFound, FailedPrecondition."""
        fields: dict[str, str | int] = {
            "state": QUEUED,
            "error": "",
            "end_time_ms": 0,
            "restarts": 0,
            "cancel": 0,
            "later_overrides": json.dumps(dict(overrides)),
            "resolved": json.dumps(dict(resolved)),
        }
        moved = await self._move(job_id, "", (FAILED,), state_event(QUEUED, "resumed"), fields)
        job = await self.get(job_id)
        if not moved:
            name = state_name(job.state).upper()
            raise FailedPrecondition(f"job {job_id!r} is {name}; only a FAILED job can be resumed", reason="NOT_FAILED")
        return job

    async def start(self, job: Job) -> Job | None:
        """QUEUED -> RUNNING under the next attempt; None when somebody else was first."""
        attempt = job.attempt + 1
        event = state_event(RUNNING, f"attempt {attempt}" if job.attempt else "")
        started = job.start_time_ms or now_ms()
        fields = {"state": RUNNING, "attempt": attempt, "start_time_ms": started, "heartbeat_ms": now_ms()}
        moved = await self._move(job.job_id, str(job.attempt), (QUEUED,), event, fields)
        return await self.get(job.job_id) if moved else None

    async def requeue(self, job_id: str, attempt: int, message: str, restarts: int) -> None:
        """RUNNING -> QUEUED: another attempt goes on from the checkpoint. Raises Superseded."""
        event = state_event(QUEUED, message)
        await self._insist(job_id, attempt, event, {"state": QUEUED, "restarts": restarts, "last_interruption": message})

    async def end(self, job_id: str, attempt: int, state: State, message: str = "", release_id: str = "") -> None:
        """RUNNING -> an end state. `message` is the error of a FAILED job. Raises Superseded."""
        error = message if state == FAILED else ""
        await self._insist(
            job_id, attempt, state_event(state, message), {**_end(state), "error": error, "release_id": release_id}
        )

    async def append(self, job_id: str, attempt: int, event: trainer_pb2.TrainingEvent) -> None:
        """Record an event; a StepDone also moves the job's step count. Raises Superseded."""
        steps = {"steps_done": event.step_done.step} if event.HasField("step_done") else {}
        await self._insist(job_id, attempt, event, steps)

    async def beat(self, job_id: str, attempt: int) -> None:
        """The worker is alive. Raises Superseded."""
        await self._insist(job_id, attempt, None, {"heartbeat_ms": now_ms()})

    async def _insist(
        self, job_id: str, attempt: int, event: trainer_pb2.TrainingEvent | None, fields: Mapping[str, str | int]
    ) -> None:
        if not await self._move(job_id, str(attempt), (RUNNING,), event, fields):
            raise Superseded(f"attempt {attempt} at job {job_id} is over")

    async def _move(
        self,
        job_id: str,
        attempt: str,
        states: tuple[int, ...],
        event: trainer_pb2.TrainingEvent | None,
        fields: Mapping[str, str | int],
    ) -> bool:
        keys = [_JOB.format(job_id), _EVENTS.format(job_id), _OPEN, _ORDER]
        allowed = "," + ",".join(str(int(state)) for state in states) + ","
        answer = await self._write(keys, [job_id, attempt, allowed, _packed(event) if event else b"", *_pairs(fields)])
        return bool(answer == 0)


def _end(state: int) -> dict[str, str | int]:
    return {"state": state, "end_time_ms": now_ms()}


def _packed(event: trainer_pb2.TrainingEvent) -> bytes:
    stamped = trainer_pb2.TrainingEvent(time=timestamp(now_ms()))
    stamped.MergeFrom(event)
    return stamped.SerializeToString()


def _event(identifier: bytes, fields: Mapping[bytes, bytes]) -> trainer_pb2.TrainingEvent:
    event = trainer_pb2.TrainingEvent.FromString(fields[b"event"])
    event.sequence = int(identifier.split(b"-")[0])
    return event


def _pairs(fields: Mapping[str, str | bytes | int]) -> list[str | bytes | int]:
    return [part for name, value in fields.items() for part in (name, int(value) if isinstance(value, int) else value)]
