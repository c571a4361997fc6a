"""`langptune study`: put the two-choice task to a model or to people, and read the results.

The tasks are those that `langptune experiment table5 --out DIR` writes to DIR/study/kit.json; answers that lie beside them are in
its tables the next time that it runs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from langptune.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from experiments.study.analysis import Response
    from experiments.study.judges import Judge
    from experiments.study.tasks import Kit

app = typer.Typer(no_args_is_help=True, help="The interpretability study: which of two items did the user take next?")
console = Console(stderr=True)

KitArgument = Annotated[Path, typer.Argument(help="The kit: study/kit.json in the folder of `langptune experiment table5`.")]
AnswersOption = Annotated[Path | None, typer.Option(help="Journal of the answers; default: beside the kit.")]


@app.command()
def judge(
    kit: KitArgument,
    endpoint: Annotated[str, typer.Option(help="Base URL of an OpenAI-compatible API, e.g. https://host/v1.")] = "",
    model: Annotated[str, typer.Option(help="Name of its model; without --endpoint, a model folder of this machine.")] = "",
    at_once: Annotated[int, typer.Option(min=1, max=256, help="Tasks asked at the same time.")] = 8,
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds for one attempt at an answer.")] = 120.0,
    answers: AnswersOption = None,
) -> None:
    """Let a model answer every task; without --endpoint and --model, a plain count of shared words. Goes on where it broke off.

    The key is read from LANGPTUNE_JUDGE_API_KEY.

    Example: langptune study judge build/experiments/study/kit.json --endpoint https://host/v1 --model some-model
    """
    from experiments.study.analysis import by_type
    from experiments.study.tasks import read_kit

    if endpoint and not model:
        raise InvalidArgument("--model", "an endpoint needs the name of a model")
    tasks = read_kit(kit)
    place, responses = asyncio.run(_judged(tasks, kit.parent, _judge(tasks, endpoint, model, timeout), answers, at_once))
    found = by_type(responses, tasks.profile_types)
    typer.echo(json.dumps({"answers": str(place), **{kind: asdict(share) for kind, share in found.items()}}, indent=2))


@asynccontextmanager
async def _judge(kit: Kit, endpoint: str, model: str, timeout: float) -> AsyncIterator[Judge]:
    """Whoever is to answer, for the block."""
    if endpoint:
        from experiments.study.chat import ChatEndpoint, ChatOptions
        from experiments.study.judges import ChatJudge

        async with ChatEndpoint(endpoint, model, ChatOptions(timeout=timeout)) as chat:
            yield ChatJudge(chat, kit.wording)
    elif model:
        from experiments.study.local_judge import LocalJudge

        yield LocalJudge(model, kit.wording)
    else:
        from experiments.study.judges import WordJudge

        yield WordJudge(kit.tasks)


async def _judged(
    kit: Kit, folder: Path, opened: AbstractAsyncContextManager[Judge], answers: Path | None, at_once: int
) -> tuple[Path, list[Response]]:
    """Where the answers lie, and the answers; with a bar."""
    from experiments.study.judging import journal_path, judge_kit

    columns = (TextColumn("tasks"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("tasks", total=len(kit.tasks))
        async with opened as who:
            place = answers or journal_path(kit, folder, who.name)
            progress = partial(_show, bars, bar)
            return place, await judge_kit(kit, who, place, at_once=at_once, on_progress=progress)


def _show(bars: Progress, bar: TaskID, done: int, total: int) -> None:
    bars.update(bar, completed=done, total=total)


@app.command()
def serve(
    kit: KitArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all, behind a proxy with TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535)] = 8_090,
    consent: Annotated[Path | None, typer.Option(help="Text put before the consent: who asks, whom to write to.")] = None,
    screening: Annotated[Path | None, typer.Option(help="JSON file with three screening questions of your own.")] = None,
    secure_cookie: Annotated[bool, typer.Option(help="Cookies over HTTPS only; for use behind a proxy with TLS.")] = False,
    answers: AnswersOption = None,
) -> None:
    """Serve the survey: consent, three screening questions, nine tasks, a questionnaire. Answers are on the disk at once.

    Send people to http://HOST:PORT/?worker=THEIR-ID. They leave with a completion code that is in the results.

    Example: langptune study serve build/experiments/study/kit.json --port 8090
    """
    import uvicorn

    from experiments.study.journal import Journal
    from experiments.study.survey.app import make_app
    from experiments.study.survey.screening import FILMS, read_screening
    from experiments.study.survey.survey import Survey
    from experiments.study.tasks import read_kit

    told = "" if consent is None else _read(consent)
    tasks = read_kit(kit)
    with Journal(answers or kit.parent / "survey.jsonl") as journal:
        survey = Survey(tasks, journal, screening=read_screening(screening) if screening else FILMS)
        places = survey.counts()["assignments_in_a_round"]
        console.print(f"{places} participants answer every task once; answers go to {journal.path}", highlight=False)
        console.print(f"http://{host}:{port}/  (Ctrl-C ends it; it goes on where it was)", highlight=False)
        app = make_app(survey, told, secure_cookie=secure_cookie)
        uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=10)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise FailedPrecondition(f"{path} cannot be read: {error.strerror}", reason="UNREADABLE_FILE") from error


@app.command()
def results(
    kit: KitArgument,
    out: Annotated[Path, typer.Option(help="Folder for answers.csv and analysis.md.")],
    answers: AnswersOption = None,
) -> None:
    """The survey's answers as CSV, and the paper's Tables 5 to 8 of them. Can be run while the survey is open.

    Example: langptune study results build/experiments/study/kit.json --out build/study
    """
    from experiments.study.journal import read_journal
    from experiments.study.report import human_report
    from experiments.study.survey.results import human_answers, write_csv
    from experiments.study.tasks import read_kit

    tasks = read_kit(kit)
    given = human_answers(read_journal(answers or kit.parent / "survey.jsonl"))
    if not given:
        raise FailedPrecondition("nobody has finished the survey yet", reason="NO_ANSWERS")
    out.mkdir(parents=True, exist_ok=True)
    write_csv(tasks, given, out / "answers.csv")
    text = human_report(tasks, given)
    (out / "analysis.md").write_text(text)
    typer.echo(text)
