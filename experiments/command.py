"""`langptune experiment`: the paper's tables and figures from the command line. What computes is imported when a command runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from langptune.errors import InvalidArgument

if TYPE_CHECKING:
    from experiments.settings import Settings

app = typer.Typer(no_args_is_help=True, help="The paper's tables and figures, on the sample world or any prepared data set.")

DatasetOption = Annotated[Path | None, typer.Option(help="Folder of a prepared data set; default: the sample world.")]
PresetOption = Annotated[str, typer.Option(help="quick: minutes, does it run; full: what results are quoted from.")]
SeedsOption = Annotated[int, typer.Option(min=1, max=100, help="How many seeds, from 1.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the results; what is there already is not computed again.")]
HyperOption = Annotated[str, typer.Option(help="tuned: our grids, chosen on validation users; paper: Appendix B.")]
EncoderOption = Annotated[str, typer.Option(help="Folder or hub id of the language model; default: the sample one.")]
EmbedderOption = Annotated[str, typer.Option(help="Folder or hub id of the text embedder; default: the sample one.")]
UsersOption = Annotated[int, typer.Option(min=0, help="The first so many test users; 0: the preset's.")]
ProcessesOption = Annotated[int, typer.Option(min=0, help="Runs at the same time, one thread each; 0: as many as cores.")]


def run_named(names: list[str], settings: Settings, processes: int) -> None:
    """Run experiments one after the other, and show their tables."""
    from experiments.runner import default_processes
    from experiments.tables import EXPERIMENTS, run

    for name in names:
        if name not in EXPERIMENTS:
            raise InvalidArgument("table", f"must be among {', '.join(EXPERIMENTS)}, not {name!r}")
    console, messages = Console(), Console(stderr=True)
    command = shlex.join(["langptune", *sys.argv[1:]])
    for name in names:
        folder = run(name, EXPERIMENTS[name], settings, command, processes or default_processes(), messages)
        console.print(Markdown((folder / "table.md").read_text()))
        messages.print(f"{folder}", highlight=False)


def make_settings(
    out: Path,
    preset: str,
    seeds: int,
    dataset: Path | None,
    hyperparameters: str,
    encoder: str,
    embedder: str,
    test_users: int,
) -> Settings:
    """From what the command line gives. Raises InvalidArgument for a word that is none of its kind."""
    from experiments.settings import Hyperparameters, Preset, Settings
    from experiments.worlds import SAMPLE_EMBEDDER, SAMPLE_ENCODER

    for option, value, words in (("--preset", preset, Preset), ("--hyperparameters", hyperparameters, Hyperparameters)):
        if value not in set(words):
            raise InvalidArgument(option, f"must be one of {', '.join(words)}, not {value!r}")
    return Settings(
        out=out,
        preset=Preset(preset),
        seeds=seeds,
        dataset=dataset,
        hyperparameters=Hyperparameters(hyperparameters),
        encoder=encoder or SAMPLE_ENCODER,
        embedder=embedder or SAMPLE_EMBEDDER,
        test_users=test_users or None,
    )


def _add(name: str, title: str) -> None:
    @app.command(name, help=f"{title}.\n\nExample: langptune experiment {name} --preset quick --seeds 2 --out build/experiments")
    def command(
        out: OutOption,
        dataset: DatasetOption = None,
        preset: PresetOption = "full",
        seeds: SeedsOption = 3,
        hyperparameters: HyperOption = "tuned",
        encoder: EncoderOption = "",
        embedder: EmbedderOption = "",
        test_users: UsersOption = 0,
        processes: ProcessesOption = 0,
    ) -> None:
        settings = make_settings(out, preset, seeds, dataset, hyperparameters, encoder, embedder, test_users)
        run_named([name], settings, processes)


COMMANDS = {  # titles stand here, not in `tables`, so that --help loads no library
    "table1": "Table 1: data statistics",
    "table2": "Table 2: interpretable profile methods",
    "table3": "Table 3: different types of recommenders",
    "table4": "Table 4: profile length, and no profile",
    "figure4": "Figure 4: share of the training data",
    "table5": "Table 5: the interpretability task",
    "table6": "Table 6: lengths of profiles and reading time",
    "figure5": "Figure 5: profile embeddings, length against similarity, the reward in training",
    "examples": "Appendix C: example generations after k iterations",
    "steering": "Beyond the paper: steering a profile",
    "profiles": "Beyond the paper: faithfulness and readability of profiles",
    "histories": "Beyond the paper: cold start and long histories",
}
for _name, _title in COMMANDS.items():
    _add(_name, _title)


@app.command()
def render(folder: Annotated[Path, typer.Argument(help="Folder of one experiment, e.g. build/experiments/table3.")]) -> None:
    """Write an experiment's Markdown and picture again from the results on disk; nothing is run.

    Example: langptune experiment render build/experiments/table3
    """
    from experiments.tables import EXPERIMENTS
    from experiments.tables import render as write

    Console().print(Markdown(write(folder, EXPERIMENTS).read_text()))


@app.command()
def page(
    out: Annotated[Path, typer.Argument(help="Folder that experiments were run into.")],
    into: Annotated[Path | None, typer.Option(help="The page; default: README.md of the package.")] = None,
) -> None:
    """Write the tables and pictures of all experiments in a folder into the results page; its prose stays as it is.

    Example: langptune experiment page build/experiments
    """
    from experiments.page import PAGE, write_page

    file = into or PAGE
    names = sorted(folder.parent.name for folder in out.glob("*/table.md"))
    write_page(file, out, names)
    Console().print(f"{file}: {', '.join(names)}", highlight=False)


@app.command("all")
def all_tables(
    out: OutOption,
    names: Annotated[list[str] | None, typer.Option("--table", help="Which; default: all. May be given several times.")] = None,
    dataset: DatasetOption = None,
    preset: PresetOption = "full",
    seeds: SeedsOption = 3,
    hyperparameters: HyperOption = "tuned",
    encoder: EncoderOption = "",
    embedder: EmbedderOption = "",
    test_users: UsersOption = 0,
    processes: ProcessesOption = 0,
) -> None:
    """Several tables one after the other; what they have in common is computed once.

    Example: langptune experiment all --table table2 --table table3 --preset quick --out build/experiments
    """
    settings = make_settings(out, preset, seeds, dataset, hyperparameters, encoder, embedder, test_users)
    run_named(names or list(COMMANDS), settings, processes)
