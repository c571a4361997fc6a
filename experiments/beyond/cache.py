"""Measures of runs, each kept on disk under the hash of the run, the measure's options and the code that takes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments.runner import default_processes, worker_pool
from experiments.runs import Result
from experiments.settings import Preset, Settings

_CODE = Path(__file__).parent


@dataclass(frozen=True)
class Measure:
    """What is taken of each run."""

    kind: str
    options: Mapping[str, Any]
    take: Callable[[Result], dict[str, Any]]  # plain values, as JSON has them

    def place(self, result: Result, out: Path) -> Path:
        """Where the measure of `result` lies."""
        about = {"kind": self.kind, "options": dict(self.options), "run": result.folder.name, "code": _code_hash()}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        return out / "measures" / f"{self.kind}-{digest}.json"

    def of(self, results: Sequence[Result], settings: Settings) -> dict[str, dict[str, Any]]:
        """By name of the run. Taken only where it is not there yet, with a bar and the time left; `full` uses all cores."""
        places = {result.folder.name: self.place(result, settings.out) for result in results}
        missing = [result for result in results if not places[result.folder.name].exists()]
        processes = min(default_processes(), len(missing)) if settings.preset is Preset.FULL else 1
        console = Console(stderr=True)
        texts = TextColumn("{task.description}")
        columns = (texts, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            bar = bars.add_task(self.kind, total=len(missing))
            for result, found in self._taken(missing, processes):
                _write(places[result.folder.name], found)
                bars.advance(bar)
        return {name: json.loads(place.read_text()) for name, place in places.items()}

    def _taken(self, results: Sequence[Result], processes: int) -> Iterator[tuple[Result, dict[str, Any]]]:
        """As they come."""
        if processes <= 1:
            yield from ((result, self.take(result)) for result in results)
            return
        with worker_pool(processes) as pool:
            futures = {pool.submit(self.take, result): result for result in results}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".part")
    fresh.write_text(json.dumps(value))
    fresh.replace(path)


def _code_hash() -> str:
    digest = hashlib.sha256()
    for file in sorted(_CODE.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
