"""`python -m samples data|models|measure|all`: make the sample world, make its models, measure them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from samples.dataset import DEFAULT_USERS, make_dataset
from samples.world import DEFAULT_ITEMS

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
console = Console()
DATA_FOLDER = Path("build/sample-world")
SEED_HELP = "The world's seed."


@app.command()
def data(
    out: Annotated[Path, typer.Option(help="The folder to write the data set to.")] = DATA_FOLDER,
    items: Annotated[int, typer.Option(help="Films in the catalogue.")] = DEFAULT_ITEMS,
    users: Annotated[int, typer.Option(help="Users; one session each.")] = DEFAULT_USERS,
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
) -> None:
    """Write the prepared data set (3 seconds). Example: python -m samples data --out build/sample-world"""
    started = time.perf_counter()
    dataset = make_dataset(out, items=items, users=users, seed=seed)
    seconds = time.perf_counter() - started
    console.print(f"{out}: {dataset.info['counts']} in {seconds:.1f} s, content {dataset.content_hash[:16]}", soft_wrap=True)


@app.command()
def models(
    out: Annotated[Path | None, typer.Option(help="The folder for both models; default: samples/models.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and training data.")] = 0,
    only: Annotated[str, typer.Option(help="profile-writer or embedder: make just this one.")] = "",
) -> None:
    """Train both models from scratch (about 45 minutes on one core). Example: python -m samples models --out build/models"""
    from samples.models import EMBEDDER, MODELS_FOLDER, WRITER, make_embedder, make_writer

    folder = out or MODELS_FOLDER
    makers: dict[str, Callable[[Path, int], float]] = {WRITER: make_writer, EMBEDDER: make_embedder}
    if only and only not in makers:
        raise typer.BadParameter(f"must be one of {', '.join(makers)}", param_hint="--only")
    for name in [only] if only else makers:
        (folder / name).mkdir(parents=True, exist_ok=True)
        seconds = makers[name](folder / name, seed)
        training = {"seed": seed, "cpu_seconds": round(seconds, 1)}
        (folder / name / "training.json").write_text(json.dumps(training) + "\n")
        console.print(f"{folder / name}: {seconds:.0f} CPU seconds")


@app.command()
def measure(
    models_folder: Annotated[Path | None, typer.Option("--models", help="Default: samples/models.")] = None,
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
    cards: Annotated[bool, typer.Option(help="Write the figures into the model cards.")] = False,
) -> None:
    """Measure both models on the test users (a minute). Example: python -m samples measure --cards"""
    from samples.cards import measure_models, read_training, write_cards
    from samples.models import MODELS_FOLDER

    folder = models_folder or MODELS_FOLDER
    measured = measure_models(folder, seed)
    console.print_json(json.dumps(measured))
    if cards:
        write_cards(folder, measured, read_training(folder))


@app.command()
def headroom(seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0) -> None:
    """What idealised profiles reach under an idealised embedder, before any training (ten seconds)."""
    from samples.dataset import world_sessions
    from samples.headroom import measure_headroom
    from samples.users import make_users
    from samples.world import make_catalogue

    catalogue = make_catalogue(seed=seed)
    sessions = world_sessions(catalogue, DEFAULT_USERS, seed)
    users = make_users(DEFAULT_USERS, seed)
    test = [at for at, session in enumerate(sessions) if session.split == "test"]
    figures = measure_headroom(catalogue, [users[at] for at in test], [sessions[at] for at in test], seed)
    console.print_json(json.dumps(figures.to_dict()))


@app.command(name="all")
def everything(
    data_out: Annotated[Path, typer.Option(help="The folder of the data set.")] = DATA_FOLDER,
    models_out: Annotated[Path | None, typer.Option(help="The folder of the models; default: samples/models.")] = None,
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
) -> None:
    """Data set, models, measurement and cards."""
    data(out=data_out, seed=seed)
    models(out=models_out, seed=0)
    measure(models_folder=models_out, seed=seed, cards=True)


if __name__ == "__main__":
    app()
