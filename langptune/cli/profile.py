"""`langptune profile`: read, write and go back to a user's profile."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from langptune.cli.output import DEFAULT_GATEWAY, MAX_SEED, GatewayOption, JsonOption, connect, console, messages, print_json, run
from langptune.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound

if TYPE_CHECKING:
    from langptune.client import LangPTune, Profile

app = typer.Typer(no_args_is_help=True, help="A user's profile. Example: langptune profile get user-00007")
UserArgument = Annotated[str, typer.Argument(help="User id.")]


@app.command()
def get(user: UserArgument, gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """Show the profile as it is now.

    Example: langptune profile get user-00007
    """
    _show(gateway, lambda client: client.get_profile(user), as_json)


@app.command()
def refresh(
    user: UserArgument,
    overwrite_edited: Annotated[bool, typer.Option(help="Replace a profile even if the user has edited it.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_SEED, help="For a repeatable text.")] = None,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Have the encoder write a new profile from the user's history.

    Example: langptune profile refresh user-00007
    """
    with messages.status("Writing ..."):
        _show(gateway, lambda client: client.refresh_profile(user, overwrite_edited=overwrite_edited, seed=seed), as_json)


@app.command()
def edit(
    user: UserArgument,
    text: Annotated[str | None, typer.Option(help="The new text; without it $EDITOR opens.")] = None,
    etag: Annotated[str, typer.Option(help="Only if the profile is still this revision; default: the one read just now.")] = "",
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Replace the profile by the user's own words. Rankings follow at once.

    Example: langptune profile edit user-00007 --text "Slow westerns, no horror."
    """
    before = run(_current(gateway, user))
    written = text if text is not None else _from_editor(before.text if before else "")
    known = etag or (before.etag if before else "")
    try:
        _show(gateway, lambda client: client.update_profile(user, written, etag=known), as_json)
    except Aborted as error:
        message = f"the profile of {user} was changed by somebody else meanwhile; nothing was saved and your text is: {written}"
        raise Aborted(message, etag=error.etag) from None


@app.command()
def history(user: UserArgument, gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """All revisions, newest first.

    Example: langptune profile history user-00007
    """
    revisions = run(_revisions(gateway, user))
    if as_json:
        print_json(revisions)
        return
    table = Table()
    for column in ("revision", "when (UTC)", "origin", "release", "text"):
        table.add_column(column)
    for revision in revisions:
        when = datetime.fromtimestamp(revision.create_time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        origin = revision.origin.value
        table.add_row(str(revision.revision), when, origin, revision.versions.release_id, Text(revision.text))
    console.print(table)


@app.command()
def restore(
    user: UserArgument,
    revision: Annotated[int, typer.Argument(min=1, max=1_000_000_000, help="Revision to go back to.")],
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Make an old revision's text the current one again, as a new revision.

    Example: langptune profile restore user-00007 1
    """

    async def work(client: LangPTune) -> Profile:
        current = await client.get_profile(user)
        return await client.restore_profile_revision(user, revision, etag=current.etag)

    _show(gateway, work, as_json)


def _show(gateway: str, work: Callable[[LangPTune], Awaitable[Profile]], as_json: bool) -> None:
    async def body() -> Profile:
        async with connect(gateway) as client:
            return await work(client)

    profile = run(body())
    if as_json:
        print_json(profile)
        return
    origin = f"{profile.origin.value} under release {profile.versions.release_id or '-'}"
    console.print(Panel(Text(profile.text), title=f"{profile.user_id}, revision {profile.revision}", subtitle=origin))


async def _current(gateway: str, user: str) -> Profile | None:
    async with connect(gateway) as client:
        try:
            return await client.get_profile(user)
        except NotFound:
            return None


async def _revisions(gateway: str, user: str) -> list[Profile]:
    async with connect(gateway) as client:
        return [revision async for revision in client.list_profile_revisions(user)]


def _from_editor(text: str) -> str:
    """`text` as the person leaves it in $VISUAL or $EDITOR. Raises InvalidArgument unless it was changed."""
    editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "profile.txt"
        file.write_text(text)
        try:
            subprocess.run([*editor, str(file)], check=True)
        except (OSError, subprocess.CalledProcessError):
            raise FailedPrecondition(
                f"the editor {editor[0]!r} did not run: set EDITOR, or use --text", reason="NO_EDITOR"
            ) from None
        edited = file.read_text().strip()
    if edited == text.strip():
        raise InvalidArgument("text", "was not changed, so nothing is saved")
    return edited
