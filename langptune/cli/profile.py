"""`langptune profile`: read, write and go back to a user's profile."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from langptune.cli.avoid import app as avoid
from langptune.cli.evidence import evidence
from langptune.cli.output import DEFAULT_GATEWAY, MAX_SEED, GatewayOption, JsonOption, connect, console, messages, print_json, run
from langptune.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound

if TYPE_CHECKING:
    from langptune.client import DiffPart, LangPTune, Preview, Profile, ProfilePage

app = typer.Typer(no_args_is_help=True, help="A user's profile. Example: langptune profile get user-00007")
app.add_typer(avoid, name="avoid")
app.command()(evidence)
UserArgument = Annotated[str, typer.Argument(help="User id.")]


@app.command()
def get(user: UserArgument, gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """Show the profile as it is now, with the suggestion and the marks beside it.

    Example: langptune profile get user-00007
    """
    _show_page(gateway, lambda client: client.get_profile_page(user), as_json)


@app.command()
def refresh(
    user: UserArgument,
    overwrite_edited: Annotated[bool, typer.Option(help="Replace a profile even if the user has edited it.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, max=MAX_SEED, help="For a repeatable text.")] = None,
    as_of: Annotated[datetime | None, typer.Option(help="Read nothing that happened later (UTC).")] = None,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Have the encoder write a new profile from the user's history.

    A profile that the user has edited stays; what was written is then laid beside it as a suggestion.

    Example: langptune profile refresh user-00007
    """

    async def work(client: LangPTune) -> ProfilePage:
        moment = round(as_of.replace(tzinfo=UTC).timestamp() * 1_000) if as_of else None
        await client.refresh_profile(user, overwrite_edited=overwrite_edited, seed=seed, as_of_ms=moment)
        return await client.get_profile_page(user)

    with messages.status("Writing ..."):
        _show_page(gateway, work, as_json)


@app.command()
def preview(
    user: UserArgument,
    text: Annotated[str, typer.Argument(help="The text to try.")],
    k: Annotated[int, typer.Option("-k", "--count", min=1, max=100, help="How many items.")] = 10,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Show the ranking that a text would give, and how far each item would move. Nothing is saved.

    Example: langptune profile preview user-00007 "Slow westerns, no horror."
    """

    async def work() -> Preview:
        async with connect(gateway) as client:
            return await client.preview(user, text, k)

    found = run(work())
    if as_json:
        print_json(found)
        return
    console.print(preview_table(found))


def preview_table(found: Preview) -> Table:
    """Places by the text, places now, and what leaves."""
    table = Table()
    for column in ("would be", "is", "item"):
        table.add_column(column, justify="left" if column == "item" else "right")
    for place in (*found.items, *found.leaving):
        table.add_row(str(place.position), str(place.previous_position or "-"), Text(place.item.title))
    return table


@app.command()
def accept(
    user: UserArgument,
    text: Annotated[str, typer.Option(help="Text merged from both, in place of the suggestion's.")] = "",
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Make the suggestion the profile.

    Example: langptune profile accept user-00007
    """

    async def work(client: LangPTune) -> Profile:
        current = await client.get_profile(user)
        return await client.accept_profile_suggestion(user, etag=current.etag, merged_text=text)

    _show(gateway, work, as_json)


@app.command()
def dismiss(user: UserArgument, gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """Forget the suggestion.

    Example: langptune profile dismiss user-00007
    """

    async def work(client: LangPTune) -> Profile:
        await client.dismiss_profile_suggestion(user)
        return await client.get_profile(user)

    _show(gateway, work, as_json)


@app.command()
def mark(
    user: UserArgument,
    sentence: Annotated[str, typer.Argument(help="A sentence of the profile, as it stands there.")],
    as_: Annotated[Literal["pinned", "not_true", "none"], typer.Option("--as", help="What to say of it.")],
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Pin a sentence, call it not true (it leaves the profile), or take its mark back (none). Later refreshes heed it.

    Example: langptune profile mark user-00007 "The user dislikes horror." --as not_true
    """

    from langptune.client import SentenceMark

    async def work(client: LangPTune) -> Profile:
        current = await client.get_profile(user)
        return await client.mark_profile_sentence(user, sentence, SentenceMark(as_), etag=current.etag)

    _show(gateway, work, as_json)


@app.command()
def diff(
    user: UserArgument,
    before: Annotated[int, typer.Argument(min=1, help="Revision to start from.")],
    after: Annotated[int, typer.Argument(min=1, help="Revision to arrive at.")],
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """What changed between two revisions, word by word: taken out in red, put in in green.

    Example: langptune profile diff user-00007 1 2
    """

    async def work() -> tuple[DiffPart, ...]:
        async with connect(gateway) as client:
            return await client.diff_profile_revisions(user, before, after)

    parts = run(work())
    if as_json:
        print_json(parts)
        return
    styles = {"kept": "", "removed": "red strike", "added": "green underline"}
    console.print(Text.assemble(*((part.text, styles[part.kind.value]) for part in parts)))


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
    else:
        _print(profile)


def _show_page(gateway: str, work: Callable[[LangPTune], Awaitable[ProfilePage]], as_json: bool) -> None:
    async def body() -> ProfilePage:
        async with connect(gateway) as client:
            return await work(client)

    page = run(body())
    if as_json:
        print_json(page)
        return
    _print(page.profile)
    if page.suggestion:
        wrote = (
            f"by release {page.suggestion.versions.release_id}: take it with `langptune profile accept {page.profile.user_id}`"
        )
        console.print(Panel(Text(page.suggestion.text), title="Suggestion", subtitle=wrote))
    for sentence, mark in page.marks.items():
        console.print(Text(f"{mark.value.replace('_', ' ')}: {sentence}"))
    if page.avoid:
        console.print(Text(f"never: {', '.join(page.avoid)}"))
    if page.new_interactions:
        state = "a refresh is on its way" if page.refresh_pending else "not in the profile yet"
        console.print(f"{page.new_interactions} new interactions; {state}.", highlight=False)


def _print(profile: Profile) -> None:
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
