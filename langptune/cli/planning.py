"""`langptune plan`: how much hardware a number of people and items needs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from langptune.cli.output import JsonOption, console, print_json
from langptune.errors import InvalidArgument

if TYPE_CHECKING:
    from langptune.operations.capacity import Capacity, Costs, Demand

app = typer.Typer(no_args_is_help=True, help="Sizes. Example: langptune plan capacity --users 1000000 --items 100000")


@app.callback()
def plan() -> None:
    """Keeps `capacity` a command of its own while it is the only one."""


@app.command()
def capacity(
    users: Annotated[int, typer.Option(help="People with a history.")],
    items: Annotated[int, typer.Option(help="Items of the catalogue.")],
    profiles_per_day: Annotated[float, typer.Option(help="Profiles written a day; 0: one in twenty users'.")] = 0.0,
    rankings_per_second: Annotated[
        float, typer.Option(help="Rankings in the busiest hour; 0: five a user and day, three times the mean.")
    ] = 0.0,
    cost: Annotated[list[str] | None, typer.Option(help="Your own unit cost, NAME=NUMBER; again for more.")] = None,
    costs: Annotated[bool, typer.Option("--costs", help="Show the unit costs, too, and where they come from.")] = False,
    as_json: JsonOption = False,
) -> None:
    """GPUs, memory, shards and Redis for so many people and items. Asks no service.

    Example: langptune plan capacity --users 1000000 --items 100000 --cost encoder_tokens_per_second=3500 --costs
    """
    from langptune.operations.capacity import Costs, Demand
    from langptune.operations.capacity import capacity as needed

    unit = Costs().with_values(dict(map(_cost, cost or ())))
    demand = Demand(users, items, profiles_per_day or users / 20, rankings_per_second or users * 5 * 3 / 86_400)
    found = needed(demand, unit)
    if as_json:
        print_json({"demand": asdict(demand), "costs": asdict(unit), "capacity": asdict(found)})
        return
    console.print(_table(demand, found))
    if not found.redis_fits:
        console.print(
            f"One Redis of {unit.redis_gib:g} GiB does not hold this, and the gateway knows no more than one.", highlight=False
        )
    if costs:
        console.print(_costs(unit))


def _cost(given: str) -> tuple[str, float]:
    name, equals, number = given.partition("=")
    try:
        return name, float(number) if equals else float("nan")
    except ValueError:
        raise InvalidArgument("cost", f"must be NAME=NUMBER, not {given!r}") from None


def _table(demand: Demand, found: Capacity) -> Table:
    table = Table(title=f"{demand.users:,} users, {demand.items:,} items", show_header=False)
    rows = {
        "profiles a day": f"{demand.profiles_per_day:,.0f}",
        "rankings a second, busiest hour": f"{demand.rankings_per_second:,.0f}",
        "encoder GPUs": f"{found.encoder_gpus:,}",
        "decoder replicas, memory of each": f"{found.decoders:,} x {found.decoder_gib:,.1f} GiB",
        "LANGPTUNE_DECODER_SIZE": found.index_size,
        "Qdrant shards x replicas": f"{found.qdrant_shards} x {found.qdrant_replicas}",
        "Qdrant memory, disk": f"{found.qdrant_gib:,.1f} GiB, {found.qdrant_disk_gib:,.1f} GiB",
        "Redis memory": f"{found.redis_gib:,.1f} GiB",
        "catalogue embedded anew on one GPU": f"{found.embed_hours:,.1f} h",
        "every profile written anew on the encoder GPUs": f"{found.refresh_days:,.1f} days",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _costs(costs: Costs) -> Table:
    from langptune.operations.capacity import SOURCES

    table = Table(title="unit costs")
    for column in ("name", "value", "source"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for name, value in asdict(costs).items():
        table.add_row(name, f"{value:,g}", SOURCES[name])
    return table
