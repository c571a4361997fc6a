"""`langptune releases`: which pair of weights versions answers users, and which could."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from langptune.cli.output import DEFAULT_GATEWAY, GatewayOption, JsonOption, connect, console, messages, print_json, run

if TYPE_CHECKING:
    from langptune.client import Published, Release

app = typer.Typer(no_args_is_help=True, help="What is live, and going forward and back. Example: langptune releases list")


@app.command(name="list")
def list_releases(gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """All releases, newest first, with their validation metrics; their weights versions are in --json.

    Example: langptune releases list
    """
    releases = run(_list(gateway))
    if as_json:
        print_json(releases)
        return
    table = Table()
    for column in ("release", "live", "NDCG", "recall", "MRR", "users", "from", "job"):
        table.add_column(column, justify="right" if column in ("NDCG", "recall", "MRR", "users") else "left", no_wrap=True)
    for release in releases:
        found = release.validation
        figures = (f"{found.ndcg:.4f}", f"{found.recall:.4f}", f"{found.mrr:.4f}", f"{found.users:,}") if found else ("-",) * 4
        live = "[bold green]live[/]" if release.live else ""
        table.add_row(release.release_id, live, *figures, release.parent_release_id or "-", release.job_id or "-")
    console.print(table)


@app.command()
def publish(
    release: Annotated[str, typer.Argument(help="Release id.")],
    expected: Annotated[str, typer.Option(help="Only if this release is live now.")] = "",
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Load a release on both sides, then make it answer users.

    Example: langptune releases publish r2 --expected r1 --reason "better on validation"
    """

    async def work() -> Published:
        async with connect(gateway) as client:
            return await client.publish_release(release, expected_live_release_id=expected, reason=reason)

    _say(work(), as_json)


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Make the release answer users that did before.

    Example: langptune releases rollback --reason "complaints about r2"
    """

    async def work() -> Published:
        async with connect(gateway) as client:
            return await client.rollback_release(reason=reason)

    _say(work(), as_json)


def _say(work: Coroutine[Any, Any, Published], as_json: bool) -> None:
    with messages.status("Loading both versions ..."):
        published = run(work)
    if as_json:
        print_json(published)
    else:
        console.print(
            f"{published.release.release_id} is live; before: {published.previous_release_id or 'nothing'}.", highlight=False
        )


async def _list(gateway: str) -> list[Release]:
    async with connect(gateway) as client:
        return [release async for release in client.list_releases()]
