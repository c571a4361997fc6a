"""`langptune backup` and `langptune restore`: what cannot be made anew, out of a living system and into an empty one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langptune.cli.output import DEFAULT_GATEWAY, GatewayOption, JsonOption, connect, console, print_json, run
from langptune.errors import FailedPrecondition

if TYPE_CHECKING:
    import redis.asyncio as redis

    from langptune.client import ImportedItems
    from langptune.local import LocalSettings
    from langptune.operations.backup import Summary

HomeOption = Annotated[Path | None, typer.Option(help="Folder of a local system; default: build/langptune.")]
WeightsOption = Annotated[
    str, typer.Option(envvar="LANGPTUNE_WEIGHTS_URI", help="Root of the weights store; default: that of the local system.")
]
FolderArgument = Annotated[Path, typer.Argument(help="Folder of the backup.")]


def backup(
    folder: FolderArgument,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    weights_uri: WeightsOption = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write profiles, histories, jobs, releases, catalogue and weights of a running system into FOLDER, which must be empty.

    Redis is that of LANGPTUNE_REDIS_URL, else the local system's. Example: langptune backup /srv/backups/monday
    """
    summary = run(_take(folder, gateway, weights_uri, home))
    if as_json:
        print_json(summary)
        return
    console.print(
        f"{summary.keys:,} keys, {summary.items:,} items and {summary.weights_files:,} files of weights are in {folder}.",
        highlight=False,
    )


def restore(
    folder: FolderArgument,
    items: Annotated[
        bool, typer.Option("--items", help="The second step: import the catalogue into the running system.")
    ] = False,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    weights_uri: WeightsOption = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a backup back in two steps: state and weights while no service runs, then, with --items, the catalogue.

    Where LANGPTUNE_REDIS_URL names no Redis, the local system's is started for the first step.
    Example: langptune restore /srv/backups/monday && langptune up & sleep 30 && langptune restore /srv/backups/monday --items
    """
    if items:
        report = run(_import(folder, gateway))
        if as_json:
            print_json(report)
            return
        console.print(f"{report.imported:,} items imported, {report.unchanged:,} were there.", highlight=False)
        return
    summary = run(_restore(folder, weights_uri, home))
    if as_json:
        print_json(summary)
        return
    console.print(f"{summary.keys:,} keys and {summary.weights_files:,} files of weights restored.", highlight=False)
    console.print(f"Now start the services and run: langptune restore {folder} --items", highlight=False)


async def _take(folder: Path, gateway: str, weights_uri: str, home: Path | None) -> Summary:
    import redis.asyncio as redis

    from langptune.operations.backup import take

    settings = _local(home)
    url = settings.redis_url.get_secret_value() if settings.redis_url else f"redis://127.0.0.1:{settings.redis_port}/0"
    async with connect(gateway) as client, redis.Redis.from_url(url) as state:
        return await take(folder, state, client.list_items(page_size=1_000), weights_uri or _weights(settings))


async def _restore(folder: Path, weights_uri: str, home: Path | None) -> Summary:
    from langptune.operations.backup import restore as restore_state

    settings = _local(home)
    async with _redis(settings) as state:
        return await restore_state(folder, state, weights_uri or _weights(settings))


async def _import(folder: Path, gateway: str) -> ImportedItems:
    from langptune.operations.backup import check, read_items

    summary = check(folder)
    async with connect(gateway) as client:
        report = await client.import_items(read_items(folder))
    if report.imported + report.unchanged != summary.items:
        raise FailedPrecondition(f"{report.rejected:,} of {summary.items:,} items were refused", reason="ITEMS_REFUSED")
    return report


@asynccontextmanager
async def _redis(settings: LocalSettings) -> AsyncIterator[redis.Redis]:
    """The Redis of the settings; the embedded one runs for the block."""
    import redis.asyncio as redis

    from langptune.local.process import exclusive
    from langptune.local.redis import EmbeddedRedis

    if settings.redis_url:
        async with redis.Redis.from_url(settings.redis_url.get_secret_value()) as state:
            yield state
        return
    with exclusive(settings.home):
        server = EmbeddedRedis(settings.home / "redis", settings.redis_port, settings.home / "logs" / "redis.log")
        await server.start()
        try:
            async with redis.Redis.from_url(server.url) as state:
                yield state
        finally:
            await server.stop()


def _local(home: Path | None) -> LocalSettings:
    from langptune.local import LocalSettings

    return LocalSettings.load(home=home)


def _weights(settings: LocalSettings) -> str:
    return str(settings.home.absolute() / "weights")
