"""`langptune bulk`: one shard of the work for everybody at once; docs/operations.md has it as a Kubernetes Job."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from langptune.cli.output import DEFAULT_GATEWAY, GatewayOption, JsonOption, connect, console, print_json, progress, run

if TYPE_CHECKING:
    from langptune.operations.bulk import Bulk, Report

app = typer.Typer(
    no_args_is_help=True, help="Everybody's profile, or a huge catalogue. Example: langptune bulk profiles users.parquet"
)
Tell: TypeAlias = Callable[[int, int], None]
SourceArgument = Annotated[Path, typer.Argument(help="Parquet file, or folder of such files.")]
ShardOption = Annotated[str, typer.Option(help="This shard of how many, I/N; /N takes I from JOB_COMPLETION_INDEX.")]
ProgressOption = Annotated[Path, typer.Option("--progress", help="Folder where each shard notes how far it is.")]
BatchOption = Annotated[int, typer.Option(min=1, max=100_000, help="Rows between two notes.")]


@app.command()
def profiles(
    source: SourceArgument,
    shard: ShardOption = "0/1",
    folder: ProgressOption = Path("build/bulk/profiles"),
    batch: BatchOption = 100,
    in_flight: Annotated[int, typer.Option(min=1, max=1_024, help="Profiles asked for at once.")] = 8,
    patience: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for a service that is full or away.")] = 300.0,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Have the profile of every `user_id` of a table written by the encoder in force; who has one already is passed over.

    Start it again after an error: it goes on where it was. Example: langptune bulk profiles users.parquet --shard 0/4
    """

    async def work(bulk: Bulk, tell: Tell) -> Report:
        return await bulk.profiles(await bulk.encoder_version(), tell)

    _tell(run(_shard(gateway, source, shard, folder, batch, in_flight, patience, work, as_json)), as_json)


@app.command()
def items(
    source: SourceArgument,
    shard: ShardOption = "0/1",
    folder: ProgressOption = Path("build/bulk/items"),
    batch: BatchOption = 1_000,
    patience: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for a service that is full or away.")] = 300.0,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Import and embed the items of a table (columns as in a prepared data set); those that are there unchanged cost nothing.

    Start it again after an error: it goes on where it was. Example: langptune bulk items items.parquet --shard 0/4
    """

    async def work(bulk: Bulk, tell: Tell) -> Report:
        return await bulk.items(tell)

    _tell(run(_shard(gateway, source, shard, folder, batch, 1, patience, work, as_json)), as_json)


async def _shard(
    gateway: str,
    source: Path,
    shard: str,
    folder: Path,
    batch: int,
    in_flight: int,
    patience: float,
    work: Callable[[Bulk, Tell], Awaitable[Report]],
    quiet: bool,
) -> Report:
    from langptune.operations.bulk import Bulk
    from langptune.operations.shards import Shard

    with progress(quiet=quiet) as bars:
        bar = bars.add_task(f"shard {shard}", total=None, note="")
        async with connect(gateway) as client:
            bulk = Bulk(client, source, Shard.parse(shard), folder, batch, in_flight, patience)
            return await work(bulk, lambda done, total: bars.update(bar, completed=done, total=total))


def _tell(report: Report, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    outcomes = ", ".join(f"{count:,} {outcome.replace('_', ' ')}" for outcome, count in sorted(report.counts.items()))
    console.print(f"Shard {report.shard}: {report.rows:,} rows: {outcomes or 'nothing to do'}.", highlight=False)
