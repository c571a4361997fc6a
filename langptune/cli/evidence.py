"""`langptune profile evidence`: what each sentence of a profile rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from langptune.cli.output import DEFAULT_GATEWAY, GatewayOption, JsonOption, connect, console, print_json, run

if TYPE_CHECKING:
    from langptune.client import ProfileEvidence

_SHOWN = 3  # interactions for a sentence
_AGAINST = {"written_from": "that the profile was written from", "history": "of the history at the time"}


def evidence(
    user: Annotated[str, typer.Argument(help="User id.")],
    revision: Annotated[int, typer.Option(min=0, max=1_000_000_000, help="Revision; 0 is the current one.")] = 0,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Show the interactions that support each sentence of the profile, or that nothing does.

    Example: langptune profile evidence user-00007
    """
    found = run(_explain(gateway, user, revision))
    if as_json:
        print_json(found)
        return
    console.print(_table(found))
    gone = f" {found.missing_interactions} more are not kept any more." if found.missing_interactions else ""
    console.print(
        f"Held against {found.interactions} interactions {_AGAINST[found.basis.value]}; support scores {found.threshold:g} or "
        f"more.{gone}",
        highlight=False,
    )


def _table(found: ProfileEvidence) -> Table:
    table = Table(title=f"Revision {found.revision}", title_justify="left")
    for column in ("sentence", "rests on", "rating", "score"):
        table.add_column(column, justify="right" if column in ("rating", "score") else "left")
    for sentence in found.sentences:
        if not sentence.support:
            nearest = "-" if sentence.nearest_score is None else f"{sentence.nearest_score:.1f}"
            table.add_row(Text(sentence.sentence), Text("nothing supports this", style="yellow"), "", nearest)
        for at, each in enumerate(sentence.support[:_SHOWN]):
            said = f"{each.interaction.item.title}: {each.interaction.review or '(no review)'}"
            first = sentence.sentence if at == 0 else ""
            table.add_row(Text(first), Text(said), f"{each.interaction.rating:g}", f"{each.score:.1f}")
    return table


async def _explain(gateway: str, user: str, revision: int) -> ProfileEvidence:
    async with connect(gateway) as client:
        return await client.explain_profile(user, revision)
