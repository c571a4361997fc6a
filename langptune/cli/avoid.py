"""`langptune profile avoid`: what a user never wants."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from langptune.cli.output import DEFAULT_GATEWAY, GatewayOption, JsonOption, connect, console, print_json, run

if TYPE_CHECKING:
    from langptune.client import LangPTune

app = typer.Typer(no_args_is_help=True, help='What a user never wants. Example: langptune profile avoid add user-00007 "clowns"')
UserArgument = Annotated[str, typer.Argument(help="User id.")]
PhraseArgument = Annotated[str, typer.Argument(help='Worded positively: "clowns", not "no clowns".')]


@app.command()
def add(
    user: UserArgument, phrase: PhraseArgument, gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False
) -> None:
    """Never recommend what this phrase names. It holds at once, with or without a profile.

    Example: langptune profile avoid add user-00007 "horror"
    """
    _show(gateway, lambda client: client.add_avoid_phrase(user, phrase), as_json)


@app.command()
def remove(
    user: UserArgument, phrase: PhraseArgument, gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False
) -> None:
    """Take a phrase away again.

    Example: langptune profile avoid remove user-00007 "horror"
    """
    _show(gateway, lambda client: client.remove_avoid_phrase(user, phrase), as_json)


@app.command("list")
def list_(user: UserArgument, gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """All that the user never wants.

    Example: langptune profile avoid list user-00007
    """
    _show(gateway, lambda client: client.list_avoid_phrases(user), as_json)


def _show(gateway: str, work: Callable[[LangPTune], Awaitable[tuple[str, ...]]], as_json: bool) -> None:
    async def body() -> tuple[str, ...]:
        async with connect(gateway) as client:
            return await work(client)

    phrases = run(body())
    if as_json:
        print_json(phrases)
        return
    console.print("\n".join(phrases) if phrases else "Nothing is avoided.", markup=False, highlight=False)
