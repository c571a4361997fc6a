"""`langptune recommend`: a user's ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from langptune.cli.filters import parse_filter
from langptune.cli.output import DEFAULT_GATEWAY, GatewayOption, JsonOption, connect, console, print_json, run

if TYPE_CHECKING:
    from langptune.client import ItemFilter, Recommendation


def recommend(
    user: Annotated[str, typer.Argument(help="User id.")],
    k: Annotated[int, typer.Option("-k", "--count", min=1, max=100, help="How many items.")] = 10,
    explain: Annotated[bool, typer.Option(help="Say which sentence of the profile speaks for each item.")] = False,
    conditions: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="FIELD=VALUE", help="Only such items: categories=comedy,drama, price=..10, !year=1984."),
    ] = None,
    avoid: Annotated[list[str] | None, typer.Option(help="What to avoid in this ranking, beside the user's own list.")] = None,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """The best items for a user, by the profile; without one by the history, without that by popularity.

    Example: langptune recommend user-00007 -k 5 --explain --filter price=..10 --filter '!categories=horror' --avoid revenge
    """
    where = parse_filter(conditions or ())
    recommendation = run(_recommend(gateway, user, k, explain, where, avoid or ()))
    if as_json:
        print_json(recommendation)
        return
    console.print(ranking_table(recommendation, title=f"For {user}"))
    versions = recommendation.versions
    console.print(
        f"By {recommendation.basis.value}{f' ({recommendation.basis_reason})' if recommendation.basis_reason else ''}, "
        f"release {versions.release_id or '-'}.",
        highlight=False,
    )


def ranking_table(recommendation: Recommendation, title: str = "") -> Table:
    """Position, title, what it is, and score."""
    table = Table(title=title or None, title_justify="left", expand=True)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("item", ratio=1)
    table.add_column("what it is", ratio=2)
    table.add_column("score", justify="right", no_wrap=True, min_width=6)
    reasons = [reason.sentence or "-" for reason in recommendation.reasons]
    if reasons:
        table.add_column("because", ratio=2)
    for at, place in enumerate(recommendation.items):
        what = place.item.description if len(place.item.description) <= 120 else f"{place.item.description[:119]}…"
        because = [Text(reasons[at])] if reasons else []
        table.add_row(str(place.position), Text(place.item.title), Text(what), f"{place.score:.3f}", *because)
    return table


async def _recommend(
    gateway: str, user: str, k: int, explain: bool, where: ItemFilter | None, avoid: Sequence[str]
) -> Recommendation:
    async with connect(gateway) as client:
        return await client.recommend(user, k=k, explain=explain, where=where, avoid=avoid)
