"""`langptune account`: a copy of all that is kept of a user, and its deletion."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from langptune.cli.output import DEFAULT_GATEWAY, GatewayOption, JsonOption, connect, console, messages, print_json, run
from langptune.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from langptune.client import DeletedUserData

app = typer.Typer(no_args_is_help=True, help="What is kept of a user. Example: langptune account export user-00007")
UserArgument = Annotated[str, typer.Argument(help="User id.")]


@app.command()
def export(
    user: UserArgument,
    out: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
    gateway: GatewayOption = DEFAULT_GATEWAY,
) -> None:
    """Write all that is kept of a user as JSON lines: interactions, revisions of the profile, the suggestion, the marks.

    Example: langptune account export user-00007 --out user-00007.jsonl
    """
    if out is None:
        run(_export(gateway, user, sys.stdout))
        return
    try:
        with out.open("w", encoding="utf-8") as file:
            count = run(_export(gateway, user, file))
    except OSError as error:
        raise FailedPrecondition(f"{out} cannot be written: {error.strerror}", reason="STORAGE") from None
    messages.print(f"{count:,} records in {out}.", highlight=False)


@app.command()
def delete(
    user: UserArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Forget a user: history, profile, revisions, marks, suggestion and queued work. There is no way back.

    Example: langptune account delete user-00007 --yes
    """
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidArgument("--yes", "is required where nobody can be asked")
        typer.confirm(f"Delete all that is kept of {user}? There is no way back", abort=True)
    gone = run(_delete(gateway, user))
    if as_json:
        print_json(gone)
        return
    console.print(f"{gone.interactions:,} interactions and {gone.revisions:,} revisions are gone.", highlight=False)


async def _export(gateway: str, user: str, file: TextIO) -> int:
    count = 0
    async with connect(gateway) as client:
        record: dict[str, Any]
        async for record in client.export_user_data(user):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count


async def _delete(gateway: str, user: str) -> DeletedUserData:
    async with connect(gateway) as client:
        return await client.delete_user_data(user)
