"""Does the runs that are missing: in processes of one thread each, longest first; a line a run, a bar with the time left.

Killed and started again it goes on where it was: finished runs are folders. A worker ends with the process that started it.
"""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from transformers.utils.logging import disable_progress_bar

from experiments.runs import Result, RunSpec, clear_leftovers, execute
from experiments.systems import entry
from langptune.errors import FailedPrecondition, LangPTuneError


def default_processes() -> int:
    """As many as there are cores for this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(specs: Iterable[RunSpec], runs: Path, processes: int, console: Console) -> dict[str, Result]:
    """Results by name of run.

    Raises FailedPrecondition if a run fails (after the ones under way), a worker dies, or another call is at work in `runs`.
    """
    wanted = {spec.name: spec for spec in specs}
    done = {name: result for name in wanted if (result := Result.find(runs, name))}
    missing = sorted((spec for name, spec in wanted.items() if name not in done), key=_guess, reverse=True)
    if done:
        console.print(f"{len(done)} of {len(wanted)} results are there already", highlight=False)
    if missing:
        with _alone(runs):
            clear_leftovers(runs)
            for result in _in_parallel(missing, runs, min(processes, len(missing)), console):
                done[result.folder.name] = result
    return {name: done[name] for name in wanted}


def worker_pool(processes: int) -> ProcessPoolExecutor:
    """Processes of one thread each, which end with this one."""
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited; read when the libraries are loaded
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_start_worker)


@contextmanager
def _alone(runs: Path) -> Iterator[None]:
    """Nobody else writes results here meanwhile. Raises FailedPrecondition if somebody does; a lock ends with its process."""
    runs.mkdir(parents=True, exist_ok=True)
    with runs.with_suffix(".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedPrecondition(f"another experiment is at work in {runs}", reason="BUSY") from None
        yield


def _in_parallel(specs: Sequence[RunSpec], runs: Path, processes: int, console: Console) -> list[Result]:
    results: list[Result] = []
    pool = worker_pool(processes)
    try:
        with _bars(console) as bars:
            clock = Clock(processes, {spec.name: _guess(spec) for spec in specs})
            task = bars.add_task("runs", total=len(specs), note=clock.note())
            futures: dict[Future[Result], RunSpec] = {pool.submit(_work, spec, runs): spec for spec in specs}
            for future in as_completed(futures):
                result = future.result()
                results.append(result)
                clock.finish(futures[future].name, result.config["seconds"])
                bars.update(task, advance=1, note=clock.note())
                console.print(_line(futures[future], result, len(results), len(specs), clock), highlight=False)
    except BrokenProcessPool as error:
        raise FailedPrecondition(
            "a worker process died, perhaps for lack of memory: run again to go on", reason="DIED"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return results


def _work(spec: RunSpec, runs: Path) -> Result:
    """In a worker. Errors come back as a kind that survives the way between processes, and say which run it was."""
    try:
        return execute(spec, runs)
    except LangPTuneError as error:
        raise FailedPrecondition(f"{spec.system}, seed {spec.seed}: {error.message}", reason=error.reason) from None


@dataclass
class Clock:
    """Guesses the time left from what the runs were thought to take and what the finished ones took."""

    processes: int
    expected: dict[str, float]  # seconds of work by run, roughly; runs that are not finished

    def __post_init__(self) -> None:
        self._done = self._taken = 0.0

    def finish(self, name: str, seconds: float) -> None:
        """A run has ended after `seconds`."""
        self._done += self.expected.pop(name)
        self._taken += seconds

    @property
    def left(self) -> float:
        """Seconds."""
        pace = self._taken / self._done if self._done else 1.0
        work = [expected * pace for expected in self.expected.values()]
        return max(sum(work) / self.processes, max(work, default=0.0))

    def note(self) -> str:
        """`about 3 min left`."""
        return f"about {self.left / 60:.0f} min left" if self.left >= 90 else f"about {self.left:.0f} s left"


def _guess(spec: RunSpec) -> float:
    """Seconds of work on the sample world; elsewhere only the proportions are right."""
    about = entry(spec.system)
    work = about.seconds * len(spec.candidates) / max(len(about.full), 1)
    return work * max(spec.train_ratio, 0.2)


def _line(spec: RunSpec, result: Result, number: int, total: int, clock: Clock) -> str:
    ndcg = result.metrics["test"]["ndcg"]
    half = ndcg["high"] - ndcg["mean"]
    ratio = f" on {spec.train_ratio:.2%} of the users" if spec.train_ratio < 1 else ""
    about = (
        f"{spec.system:15} seed {spec.seed}{ratio}: NDCG@20 {ndcg['mean']:.4f} ± {half:.4f} in {result.config['seconds']:.0f} s"
    )
    return f"{number}/{total} {about}; {clock.note()}"


def _bars(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _start_worker() -> None:
    """One thread for the arithmetic, no bars and chatter of libraries; end with the parent, however that ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    torch.set_num_threads(1)
    disable_progress_bar()
    logging.disable(logging.WARNING)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
