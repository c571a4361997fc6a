"""`langptune refresh-queue`: profiles that wait to be written again, and those that were given up."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from langptune.cli.output import DEFAULT_GATEWAY, GatewayOption, JsonOption, connect, console, print_json, run
from langptune.errors import InvalidArgument

if TYPE_CHECKING:
    from langptune.client import DeadRefresh, RefreshQueueDepth

app = typer.Typer(no_args_is_help=True, help="Profiles that wait to be written again. Example: langptune refresh-queue list")


@app.command("list")
def list_(gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """Show how many wait and for how long, and every refresh that was given up, with its last failure.

    Example: langptune refresh-queue list
    """
    depth, dead = run(_list(gateway))
    if as_json:
        print_json({**asdict(depth), "dead_refreshes": dead})
        return
    console.print(
        f"{depth.queued} queued, {depth.running} running, {depth.delayed} to be tried again, {depth.dead} given up; "
        f"the oldest waits for {depth.lag:.1f} s.",
        highlight=False,
    )
    if not dead:
        return
    table = Table()
    for column in ("user", "given up (UTC)", "attempts", "code", "last failure"):
        table.add_column(column)
    for each in dead:
        when = datetime.fromtimestamp(each.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(each.user_id, when, str(each.attempts), each.code, Text(each.message))
    console.print(table)


@app.command()
def replay(
    users: Annotated[list[str] | None, typer.Argument(help="User ids.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that were given up, the oldest 1,000 at a time.")] = False,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Queue refreshes that were given up again, with all attempts before them.

    Example: langptune refresh-queue replay user-00007
    """
    if bool(users) == all_:
        raise InvalidArgument("users", "name some, or give --all")
    replayed = run(_replay(gateway, users or []))
    if as_json:
        print_json({"replayed": replayed})
    else:
        console.print(f"{replayed} queued again.", highlight=False)


async def _list(gateway: str) -> tuple[RefreshQueueDepth, list[DeadRefresh]]:
    async with connect(gateway) as client:
        return await client.get_refresh_queue(), [dead async for dead in client.list_dead_refreshes()]


async def _replay(gateway: str, users: list[str]) -> int:
    async with connect(gateway) as client:
        return await client.replay_dead_refreshes(users)
