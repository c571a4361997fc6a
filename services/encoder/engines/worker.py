"""The one thread that runs the model: it gathers waiting jobs into batches and hands each result over as it is finished.

Jobs of one batch share a weights version; live requests go before rollouts, and prompts of similar length go together because
they are queued that way. Left out: joining a batch that runs already.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from langptune.errors import Unavailable
from services.encoder.engines.decoding import Sample, Task, decode
from services.encoder.engines.loading import LoadedModel

Outcome = Sequence[Sample] | BaseException

LIVE, ROLLOUTS = 0, 1  # priorities


@dataclass(eq=False, slots=True)
class Job:
    """One prompt to be continued; `on_done` is called once, on the worker's thread, unless the job is called off."""

    loaded: LoadedModel
    task: Task
    priority: int
    on_done: Callable[[Outcome], None]
    cancelled: bool = field(default=False)

    @property
    def positions(self) -> int:
        """Room that it may need in the key-value cache."""
        return self.task.samples * (len(self.task.prompt_ids) + self.task.max_new_tokens)


class Worker:
    """Batches of at most `max_rows` profiles and `max_positions` positions (one job may be more); `wait` seconds for company."""

    def __init__(self, *, max_rows: int, max_positions: int, wait: float, threads: int) -> None:
        self._max_rows = max_rows
        self._max_positions = max_positions
        self._wait = wait
        self._threads = threads
        self._queue: list[tuple[int, int, Job]] = []  # heap by priority and arrival
        self._arrivals = itertools.count()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="encoder-worker", daemon=True)
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue `jobs` in this order. Raises Unavailable when closing."""
        with self._changed:
            if self._closing:
                raise Unavailable("the encoder is shutting down")
            for job in jobs:
                heapq.heappush(self._queue, (job.priority, next(self._arrivals), job))
            self._changed.notify()

    def close(self) -> None:
        """End the thread; what runs or waits is told Unavailable."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self._threads)
        while batch := self._next_batch():
            self._write(batch)
        for _, _, job in self._queue:
            job.on_done(Unavailable("the encoder is shutting down"))

    def _next_batch(self) -> list[Job]:
        """The next jobs of one version, in order; none when closing."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._closing)
                if self._queue and self._queue[0][0] == LIVE:
                    self._changed.wait_for(lambda: self._waiting_rows() >= self._max_rows or self._closing, self._wait)
                if self._closing:
                    return []
                if batch := self._take():  # else all that waited was called off
                    return batch

    def _waiting_rows(self) -> int:
        return sum(job.task.samples for _, _, job in self._queue)

    def _take(self) -> list[Job]:
        batch: list[Job] = []
        others: list[tuple[int, int, Job]] = []
        rows = positions = 0
        while self._queue:
            entry = heapq.heappop(self._queue)
            job = entry[2]
            if job.cancelled:
                continue
            if batch and job.loaded is not batch[0].loaded:
                others.append(entry)
                continue
            if batch and (rows + job.task.samples > self._max_rows or positions + job.positions > self._max_positions):
                others.append(entry)
                break
            batch.append(job)
            rows += job.task.samples
            positions += job.positions
        for entry in others:
            heapq.heappush(self._queue, entry)
        return batch

    def _write(self, batch: list[Job]) -> None:
        loaded = batch[0].loaded
        open_jobs = dict(enumerate(batch))
        gone = partial(self._is_gone, batch)
        try:
            for place, samples in decode(loaded.model, sorted(loaded.stop_ids), [job.task for job in batch], gone):
                open_jobs.pop(place).on_done(samples)
            error: BaseException = Unavailable("the encoder is shutting down")
        except Exception as failure:  # noqa: BLE001  # a failing batch fails its own calls, where it is logged; the thread goes on
            error = failure
        for job in open_jobs.values():
            job.on_done(error)

    def _is_gone(self, batch: list[Job], place: int) -> bool:
        return self._closing or batch[place].cancelled
