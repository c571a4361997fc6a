"""`langptune up` and `langptune demo`: the whole system on this machine."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langptune.cli.output import JsonOption, console, messages, print_json, run
from langptune.errors import Cancelled

if TYPE_CHECKING:
    from langptune.local import LocalSettings


class Ports(StrEnum):
    """Where the services listen."""

    FIXED = "fixed"
    AUTO = "auto"


def up(
    home: Annotated[Path | None, typer.Option(help="Folder of all state and logs; default: build/langptune.")] = None,
    ports: Annotated[
        Ports, typer.Option(help="fixed: as the settings say (50051-50055, 8080). auto: any free ones.")
    ] = Ports.FIXED,
    profile_model: Annotated[str | None, typer.Option(help="Hugging Face id or folder; default: the tiny sample model.")] = None,
    embedding_model: Annotated[
        str | None, typer.Option(help="Hugging Face id or folder; default: the tiny sample model.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start Redis (unless REDIS_URL names one), encoder, decoder, trainer and gateway on 127.0.0.1, until Ctrl-C.

    Example: langptune up --profile-model google/gemma-2b-it --embedding-model mixedbread-ai/mxbai-embed-large-v1
    """
    from langptune.local import LocalSettings

    settings = LocalSettings.load(home=home, profile_model=profile_model, embedding_model=embedding_model)
    try:
        run(_up(settings.with_free_ports() if ports is Ports.AUTO else settings, as_json))
    except (KeyboardInterrupt, Cancelled):
        messages.print("Stopped.")


def demo(
    home: Annotated[Path, typer.Option(help="Folder of the demo; what an earlier demo left there is removed.")] = Path(
        "build/demo"
    ),
    leave: Annotated[
        bool, typer.Option("--exit", help="End when the story is told, even if standard input is a terminal.")
    ] = False,
) -> None:
    """Tell the whole story on the sample world: profile, ranking, edit, training, publish, rollback (six minutes).

    Example: langptune demo --exit
    """
    from langptune.demo import tell

    try:
        run(tell(home, stay=sys.stdin.isatty() and not leave))
    except KeyboardInterrupt:
        messages.print("Stopped.")


async def _up(settings: LocalSettings, as_json: bool) -> None:
    from langptune.local import LocalSystem
    from langptune.local.settings import SERVICES

    def started(service: str, address: str) -> None:
        if not as_json:
            console.print(f"{service:8} {address}", highlight=False)

    async with LocalSystem(settings, on_started=started) as system:
        if as_json:
            addresses = {service: settings.address(service) for service in SERVICES}
            redis = f"redis://127.0.0.1:{settings.redis_port}/0" if settings.redis_url is None else ""
            home = str(settings.home.absolute())
            print_json(
                {
                    "gateway": system.gateway_address,
                    "page": settings.page_url,
                    "addresses": addresses,
                    "redis": redis,  # the embedded one; an own URL may hold a password
                    "pids": system.pids(),
                    "home": home,
                }
            )
            sys.stdout.flush()
        else:
            console.print(f"Ready: {settings.page_url} (gRPC: {system.gateway_address}). Ctrl-C stops it.", highlight=False)
            console.print(f"Logs: {settings.home / 'logs'}", highlight=False)
        raise await system.died()
