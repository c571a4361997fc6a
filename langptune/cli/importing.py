"""`langptune import`: catalogue and histories, from a prepared data set's folder or from JSON lines.

A JSON lines file is checked to its last line before the first is sent, so a malformed one changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langptune.cli.output import DEFAULT_GATEWAY, GatewayOption, JsonOption, connect, console, messages, print_json, progress, run

if TYPE_CHECKING:
    from langptune.client import ImportedInteractions, ImportedItems, Interaction, Item, NewInteraction, Rejection

app = typer.Typer(no_args_is_help=True, help="Catalogue and histories. Example: langptune import items build/sample-world")
SourceArgument = Annotated[Path, typer.Argument(help="Folder of a prepared data set, or a JSON lines file.")]
_SHOWN_REJECTIONS = 10


@app.command()
def items(source: SourceArgument, gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """Add or replace items of the catalogue. Lines hold item_id, title, description, categories, average_rating, price.

    And attributes: an object of texts, numbers, true or false, and lists of texts. Filters may name those that the decoder's
    setting LANGPTUNE_DECODER_FILTERABLE_FIELDS declares.

    Example: langptune import items build/sample-world
    """
    total, entries = _items(source)
    with progress(quiet=as_json) as bars:
        bar = bars.add_task("items", total=total, note="")
        outcome = run(_import_items(gateway, entries, lambda sent: bars.update(bar, completed=sent)))
    if as_json:
        print_json(outcome)
        return
    console.print(
        f"{outcome.imported:,} items imported, {outcome.unchanged:,} unchanged, {outcome.rejected:,} rejected; "
        f"the catalogue holds {outcome.catalogue_size:,}.",
        highlight=False,
    )
    _show(outcome.rejections)


@app.command()
def interactions(source: SourceArgument, gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """Add to users' histories. Lines hold user_id, item_id, rating, review, time_ms. The items must be in the catalogue.

    Example: langptune import interactions build/sample-world
    """
    total, entries = _interactions(source)
    with progress(quiet=as_json) as bars:
        bar = bars.add_task("interactions", total=total, note="")
        outcome = run(_import_interactions(gateway, entries, lambda sent: bars.update(bar, completed=sent)))
    if as_json:
        print_json(outcome)
        return
    console.print(
        f"{outcome.recorded:,} interactions of {outcome.users:,} users recorded, {outcome.unchanged:,} unchanged, "
        f"{outcome.rejected:,} rejected.",
        highlight=False,
    )
    _show(outcome.rejections)


def _items(source: Path) -> tuple[int, Iterable[Item]]:
    if source.is_dir():
        from langptune.data.dataset import Dataset

        items = Dataset.open(source).items
        return len(items), items.values()
    from langptune.cli.jsonl import count_lines, parse_item, read_lines

    return count_lines(source, parse_item), read_lines(source, parse_item)


def _interactions(source: Path) -> tuple[int, Iterable[tuple[str, Interaction | NewInteraction]]]:
    if source.is_dir():
        from langptune.data.dataset import Dataset

        interactions = Dataset.open(source).interactions
        return len(interactions), interactions
    from langptune.cli.jsonl import count_lines, parse_interaction, read_lines

    return count_lines(source, parse_interaction), read_lines(source, parse_interaction)


async def _import_items(gateway: str, entries: Iterable[Item], report: Callable[[int], None]) -> ImportedItems:
    async with connect(gateway) as client:
        return await client.import_items(entries, progress=report)


async def _import_interactions(
    gateway: str, entries: Iterable[tuple[str, Interaction | NewInteraction]], report: Callable[[int], None]
) -> ImportedInteractions:
    async with connect(gateway) as client:
        return await client.import_interactions(entries, progress=report)


def _show(rejections: Iterable[Rejection]) -> None:
    for rejection in list(rejections)[:_SHOWN_REJECTIONS]:
        messages.print(
            f"  {rejection.index}: {rejection.id or '-'}: {rejection.field}: {rejection.reason}", markup=False, highlight=False
        )
