"""Put every task to a judge, some at a time; what is answered already is not asked again.

Answers are kept as they came, in a journal that belongs to one kit and one judge, so that they can be read anew by another
parser.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.study.analysis import Response
from experiments.study.journal import Journal, read_journal
from experiments.study.judges import Judge
from experiments.study.tasks import Kit, Task
from experiments.study.wording import parse_answer
from langptune.errors import FailedPrecondition

OnProgress = Callable[[int, int], None]  # (answered, all)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One answer as it came."""

    kit: str  # content hash
    judge: str
    task_id: str
    text: str
    seconds: float


async def judge_kit(
    kit: Kit, judge: Judge, path: Path, *, at_once: int = 8, on_progress: OnProgress = lambda done, total: None
) -> list[Response]:
    """Ask `judge` what `path` has no answer to yet, at most `at_once` tasks at a time; returns all answers, in the kit's order.

    Raises FailedPrecondition if `path` belongs to another kit or judge, and what the judge raises; answers up to then are kept.
    """
    with Journal(path) as journal:
        known = {record["task_id"] for record in journal.records}
        for record in journal.records:
            if (record["kit"], record["judge"]) != (kit.content_hash, judge.name):
                raise FailedPrecondition(f"{path} has answers of {record['judge']} or to another kit", reason="OTHER_ANSWERS")
        waiting = [task for task in kit.tasks if task.task_id not in known]
        done = len(kit.tasks) - len(waiting)
        on_progress(done, len(kit.tasks))
        places = asyncio.Semaphore(at_once)

        async def ask(task: Task) -> None:
            nonlocal done
            async with places:
                began = time.monotonic()
                text = await judge.answer(task)
                seconds = round(time.monotonic() - began, 3)
            journal.append(asdict(Judgement(kit.content_hash, judge.name, task.task_id, text, seconds)))
            done += 1
            on_progress(done, len(kit.tasks))

        try:
            async with asyncio.TaskGroup() as group:
                for task in waiting:
                    group.create_task(ask(task))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
    return responses_of(kit, path)


def journal_path(kit: Kit, folder: Path, judge: str) -> Path:
    """Where the answers of a judge to `kit` lie, below the folder of the kit."""
    name = "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in judge)
    return folder / "judges" / f"{kit.content_hash[:16]}-{name}.jsonl"


def responses_of(kit: Kit, path: Path) -> list[Response]:
    """The answers of a judge's journal, in the kit's order; no choice where an answer is not in the form."""
    answers = {record["task_id"]: record for record in read_journal(path) if record["kit"] == kit.content_hash}
    return [_response(task, answers[task.task_id]) for task in kit.tasks if task.task_id in answers]


def _response(task: Task, record: dict[str, str | float]) -> Response:
    answer = parse_answer(str(record["text"]))
    return Response(
        respondent=str(record["judge"]),
        user_id=task.user_id,
        profile_type=task.profile_type,
        correct=None if answer is None else answer.choice == task.answer,
        seconds=float(record["seconds"]),
    )
