"""What a preparation shows: bars while it runs, then what was left after each step and what was written."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from langptune.data.funnel import EmptyResult, FunnelRow

if TYPE_CHECKING:
    from langptune.data.prepare import Prepared
    from langptune.data.raw import Progress as ProgressCallback


@contextmanager
def progress_bars() -> Iterator[ProgressCallback]:
    """Bars on standard error, one per stage; silent where that is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show


def show_result(prepared: Prepared, seconds: float, as_json: bool) -> None:
    """All of it: one JSON object, or a table and three sentences."""
    report = _report(prepared, seconds)
    if as_json:
        typer.echo(json.dumps(report))
        return
    _print_funnel(prepared.funnel)
    sizes = ", ".join(f"{size:,} {split_name}" for split_name, size in prepared.sessions.items())
    typer.echo(f"Sessions: {sizes}.")
    typer.echo(f"Wrote {report['folder']} (content hash {prepared.dataset.content_hash[:16]}).")
    typer.echo(f"Took {report['seconds']} s and at most {report['peak_memory_mib']} MiB of memory.")


def show_where_it_ended(error: EmptyResult, as_json: bool) -> None:
    """The funnel up to the step that left nothing."""
    if as_json:
        typer.echo(json.dumps({"funnel": [asdict(row) for row in error.funnel]}))
    else:
        _print_funnel(error.funnel)


def _report(prepared: Prepared, seconds: float) -> dict[str, Any]:
    dataset = prepared.dataset
    return {
        "folder": str(dataset.folder),
        "name": dataset.name,
        "content_hash": dataset.content_hash,
        "counts": dataset.info["counts"],
        "sessions": dict(prepared.sessions),
        "funnel": [asdict(row) for row in prepared.funnel],
        "seconds": round(seconds, 2),
        "peak_memory_mib": _peak_memory_mib(),
    }


def _print_funnel(funnel: Sequence[FunnelRow]) -> None:
    table = Table(title="What was left after each step", title_justify="left")
    table.add_column("step")
    for column in ("users", "items", "interactions", "dropped"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in funnel:
        table.add_row(row.step, f"{row.users:,}", f"{row.items:,}", f"{row.interactions:,}", f"{row.dropped:,}", row.why)
    Console().print(table)


def _peak_memory_mib() -> int:
    """Most memory that this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10
