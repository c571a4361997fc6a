"""The one thread that runs the models: waiting jobs join the running batches between two tokens, results are handed over at once.

Every weights version that is being written with has a batch of its own; they take turns, a token each. Live requests join
before rollouts and have an eighth of the rows to themselves. Left out: taking running rollouts out for a live request.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from langptune.errors import Unavailable
from services.encoder import metrics
from services.encoder.engines.decoding import Batch, Draft, Sample, Task
from services.encoder.engines.loading import LoadedModel

Outcome = Sequence[Sample] | BaseException
T = TypeVar("T")

LIVE, ROLLOUTS = 0, 1  # priorities
_QUEUE_SECONDS = (metrics.QUEUE_SECONDS.labels("live"), metrics.QUEUE_SECONDS.labels("rollouts"))
_LIVE_SHARE = 8  # one row in so many is kept free of rollouts
_JOINING_TOKENS = 2_048  # prompts that join between two tokens: what those who are being written may wait


@dataclass(eq=False, slots=True)
class Job:
    """One prompt to be continued. The callbacks run on the worker's thread; `on_done` once, unless the job is called off."""

    loaded: LoadedModel
    task: Task
    priority: int
    on_done: Callable[[Outcome], None]
    on_token: Callable[[int], None] | None = None  # each token of the only sample
    cancelled: bool = field(default=False)
    arrived: float = field(default_factory=time.perf_counter)

    @property
    def length(self) -> int:
        """Positions that each of its rows may need."""
        return len(self.task.prompt_ids) + self.task.max_new_tokens


class _Lane:
    """The running jobs of one weights version."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.batch = Batch(loaded.model, loaded.stop_ids)
        self.jobs: dict[Draft, Job] = {}

    def join(self, job: Job) -> None:
        _QUEUE_SECONDS[job.priority].observe(time.perf_counter() - job.arrived)
        draft = self.batch.join(job.task)
        self.jobs[draft] = job
        self._tell(draft)

    def step(self) -> None:
        if self.batch.rows:
            metrics.BATCH_ROWS.observe(self.batch.rows)
            self.batch.step()
            for draft in list(self.jobs):
                self._tell(draft)

    def drop_cancelled(self) -> None:
        for draft in [draft for draft, job in self.jobs.items() if job.cancelled]:
            self.batch.leave(draft)
            del self.jobs[draft]

    def _tell(self, draft: Draft) -> None:
        job = self.jobs[draft]
        if job.on_token:
            job.on_token(draft.samples[0].token_ids[-1])
        if draft.finished:
            job.on_done(draft.samples)
            del self.jobs[draft]


class Worker:
    """At most `max_rows` profiles and `max_positions` positions at once (a job that is larger runs by itself)."""

    def __init__(self, *, max_rows: int, max_positions: int, threads: int) -> None:
        self._max_rows = max_rows
        self._max_positions = max_positions
        self._threads = threads
        self._queue: list[tuple[int, int, Job]] = []  # heap by priority and arrival
        self._calls: deque[Callable[[], None]] = deque()
        self._lanes: list[_Lane] = []
        self._arrivals = itertools.count()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="encoder-worker", daemon=True)
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue `jobs` in this order. Raises Unavailable when closing."""
        with self._changed:
            self._check_open()
            for job in jobs:
                heapq.heappush(self._queue, (job.priority, next(self._arrivals), job))
            self._changed.notify()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run `function` on the worker's thread between two tokens. Raises Unavailable when closing."""
        future: Future[T] = Future()

        def answer() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except Exception as error:  # noqa: BLE001  # it is the caller's, who is told; the thread goes on
                    future.set_exception(error)

        with self._changed:
            self._check_open()
            self._calls.append(answer)
            self._changed.notify()
        return future

    def queued(self, priority: int) -> int:
        """Jobs of this priority that wait; from any thread."""
        with self._changed:
            return sum(waiting == priority and not job.cancelled for waiting, _, job in self._queue)

    @property
    def rows(self) -> int:
        """Profiles that are being written; from any thread."""
        return sum(lane.batch.rows for lane in list(self._lanes))

    def close(self) -> None:
        """End the thread; what runs or waits is told Unavailable."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        while self._wait():
            while self._calls:
                self._calls.popleft()()
            for lane in self._lanes:
                lane.drop_cancelled()
            self._admit()
            for lane in list(self._lanes):
                self._guard(lane, lane.step)
            self._lanes = [lane for lane in self._lanes if lane.jobs]
        waiting = [job for _, _, job in self._queue]
        running = [job for lane in self._lanes for job in lane.jobs.values()]
        for job in (*waiting, *running):
            job.on_done(Unavailable("the encoder is shutting down"))
        for answer in self._calls:
            answer()

    def _wait(self) -> bool:
        """Return when there is something to do: True, or False when closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._queue or self._calls or self._lanes)
            return not self._closing

    def _check_open(self) -> None:
        if self._closing:
            raise Unavailable("the encoder is shutting down")

    def _admit(self) -> None:
        """Let waiting jobs join, in order, as far as there is room."""
        tokens = 0
        while tokens < _JOINING_TOKENS and (job := self._next()):
            tokens += len(job.task.prompt_ids)
            lane = next((lane for lane in self._lanes if lane.loaded is job.loaded), None)
            if lane is None:
                lane = _Lane(job.loaded)
                self._lanes.append(lane)
            self._guard(lane, lambda lane=lane, job=job: lane.join(job), job)  # type: ignore[misc]  # bound now, not when called

    def _next(self) -> Job | None:
        with self._changed:
            while self._queue and self._queue[0][2].cancelled:
                heapq.heappop(self._queue)
            if self._queue and self._has_room(self._queue[0][2]):
                return heapq.heappop(self._queue)[2]
            return None

    def _has_room(self, job: Job) -> bool:
        rows = self.rows
        widest = max((running.length for lane in self._lanes for running in lane.jobs.values()), default=0)
        allowed = self._max_rows if job.priority == LIVE else self._max_rows - self._max_rows // _LIVE_SHARE
        wanted = rows + job.task.samples
        fits = wanted <= allowed and wanted * max(widest, job.length) <= self._max_positions  # a slot is as wide as the widest
        return fits or not rows

    def _guard(self, lane: _Lane, work: Callable[[], None], job: Job | None = None) -> None:
        """Do `work`; when it fails, the jobs that it was for are told: `job`, or all of the lane, which ends."""
        try:
            work()
        except Exception as error:  # noqa: BLE001  # a failing pass fails its own calls, where it is logged; the thread goes on
            if job is None:
                self._lanes.remove(lane)
            for failed in [job] if job else lane.jobs.values():
                failed.on_done(error)
