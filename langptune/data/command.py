"""`langptune data`: the command line of the preparation. The work is in langptune.data.prepare, which is imported when needed."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from langptune.data.funnel import EmptyResult, FunnelRow
from langptune.data.options import PrepareOptions, Split
from langptune.text import DEFAULT_DOMAIN

if TYPE_CHECKING:
    from langptune.data.prepare import Prepared
    from langptune.data.raw import Progress as ProgressCallback

app = typer.Typer(no_args_is_help=True, help="Prepare data sets.")


class OverLengthChoice(StrEnum):
    """What happens to texts over the token limits."""

    DROP = "drop"
    TRUNCATE = "truncate"


@app.callback()
def data() -> None:
    """Prepare data sets."""


@app.command()
def prepare(
    reviews: Annotated[Path, typer.Option(help="Reviews: JSON lines in the Amazon-Reviews-2023 schema, plain or gzip.")],
    metadata: Annotated[Path, typer.Option(help="Item metadata: JSON lines of the same schema, plain or gzip.")],
    out: Annotated[Path, typer.Option(help="Folder of the prepared data set.")],
    split: Annotated[
        Split,
        typer.Option(
            help="first-4: a user's first items, then the next; users held out by time (the paper). leave-last-out: the items "
            "before a user's last one, then that one; users held out by seed. global-time: one cut in time for everybody."
        ),
    ] = Split.FIRST_4,
    history_length: Annotated[int, typer.Option(help="Items in a history.")] = 4,
    min_interactions: Annotated[int, typer.Option(help="The k of the k-core over users and items; 1 keeps all.")] = 5,
    held_out: Annotated[
        float, typer.Option(help="Share of users (global-time: of interactions) held out; half validates, half tests.")
    ] = 0.2,
    train_windows: Annotated[int, typer.Option(help="Most (history, target) windows per training user; the paper: 1.")] = 1,
    item_tokens: Annotated[int, typer.Option(help="Longest item text, in tokens of the embedder.")] = 512,
    prompt_tokens: Annotated[
        int, typer.Option(help="Longest prompt, in tokens of the encoder, chat template not counted.")
    ] = 1024,
    over_length: Annotated[
        OverLengthChoice, typer.Option(help="drop: what is over the limits goes, as in the paper. truncate: it stays.")
    ] = OverLengthChoice.DROP,
    embedder_tokenizer: Annotated[
        str | None, typer.Option(help="tokenizer.json, model folder or hub id; without it, tokens are estimated from words.")
    ] = None,
    encoder_tokenizer: Annotated[str | None, typer.Option(help="The same for the encoder.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set; by default that of the folder.")] = None,
    domain: Annotated[str, typer.Option(help='What the items are, as prompts say it, e.g. "books".')] = DEFAULT_DOMAIN,
    seed: Annotated[int, typer.Option(help="Of the choice of held-out users and their halves.")] = 0,
    skip_malformed: Annotated[bool, typer.Option(help="Count malformed lines instead of stopping at the first.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the data set that --out holds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Turn raw reviews and item metadata into items and sessions, and say what was dropped and why.

    Example: langptune data prepare --reviews Books.jsonl.gz --metadata meta_Books.jsonl.gz --out books --domain books
    """
    options = PrepareOptions(
        split=split,
        history_length=history_length,
        min_interactions=min_interactions,
        held_out=held_out,
        train_windows=train_windows,
        item_tokens=item_tokens,
        prompt_tokens=prompt_tokens,
        over_length=over_length.value,
        seed=seed,
        domain=domain,
        skip_malformed=skip_malformed,
    )
    began = time.monotonic()
    try:
        prepared = _prepare(_Sources(reviews, metadata, embedder_tokenizer, encoder_tokenizer), out, options, name, overwrite)
    except EmptyResult as error:
        _show_where_it_ended(error, as_json)
        raise
    report = _report(prepared, time.monotonic() - began)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _show(prepared, report)


@dataclass(frozen=True, slots=True)
class _Sources:
    """Raw files, and tokenizers (None: the estimate) that their texts are counted with."""

    reviews: Path
    metadata: Path
    embedder_tokenizer: str | None
    encoder_tokenizer: str | None


def _prepare(sources: _Sources, out: Path, options: PrepareOptions, name: str | None, overwrite: bool) -> Prepared:
    from langptune.data.prepare import prepare as run
    from langptune.data.tokens import token_counter

    embedder = token_counter(sources.embedder_tokenizer, "embedder_tokenizer")
    encoder = token_counter(sources.encoder_tokenizer, "encoder_tokenizer")
    with _progress() as progress:
        return run(
            sources.reviews,
            sources.metadata,
            out,
            options=options,
            name=name,
            embedder_tokens=embedder,
            encoder_tokens=encoder,
            overwrite=overwrite,
            progress=progress,
        )


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


def _show(prepared: Prepared, report: dict[str, Any]) -> None:
    _print_funnel(prepared.funnel)
    sizes = ", ".join(f"{size:,} {split_name}" for split_name, size in prepared.sessions.items())
    typer.echo(f"Sessions: {sizes}.")
    typer.echo(f"Wrote {report['folder']} (content hash {prepared.dataset.content_hash[:16]}).")
    typer.echo(f"Took {report['seconds']} s and at most {report['peak_memory_mib']} MiB of memory.")


def _show_where_it_ended(error: EmptyResult, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"funnel": [asdict(row) for row in error.funnel]}))
    else:
        _print_funnel(error.funnel)


def _print_funnel(funnel: Sequence[FunnelRow]) -> None:
    table = Table(title="What was left after each step", title_justify="left")
    table.add_column("step")
    for column in ("users", "items", "interactions", "dropped"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in funnel:
        table.add_row(row.step, f"{row.users:,}", f"{row.items:,}", f"{row.interactions:,}", f"{row.dropped:,}", row.why)
    Console().print(table)


@contextmanager
def _progress() -> Iterator[ProgressCallback]:
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


def _peak_memory_mib() -> int:
    """Most memory that this process has held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10
