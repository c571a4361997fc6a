"""From the survey's journal to responses and a CSV: participants that finished, one for each assignment."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.study.analysis import Response
from experiments.study.survey.participant import QUESTIONS
from experiments.study.survey.survey import completion_code
from experiments.study.tasks import Kit
from langptune.errors import FailedPrecondition

COLUMNS = ("participant", "worker", "code", "assignment", "task_id", "user_id", "profile_type", "choice", "correct", "seconds")


@dataclass(frozen=True, slots=True)
class HumanAnswer:
    """One answered task of a participant who finished."""

    participant: str
    worker: str
    assignment: int
    task_id: str
    choice: str
    seconds: float
    questionnaire: dict[str, str]


def human_answers(events: Sequence[dict[str, Any]]) -> list[HumanAnswer]:
    """The answers that count. Of two who finished the same assignment (one came back late), the first to finish counts."""
    workers: dict[str, str] = {}
    assignments: dict[str, int] = {}
    answers: dict[str, list[dict[str, Any]]] = {}
    counted: set[int] = set()
    found: list[HumanAnswer] = []
    for event in events:
        name = event["participant"]
        match event["kind"]:
            case "consented":
                workers[name] = event["worker"]
            case "assigned":
                assignments[name] = event["assignment"]
            case "answered":
                answers.setdefault(name, []).append(event)
            case "questionnaire" if assignments[name] not in counted:
                counted.add(assignments[name])
                found += [
                    HumanAnswer(
                        name, workers[name], assignments[name], own["task_id"], own["choice"], own["seconds"], event["answers"]
                    )
                    for own in answers[name]
                ]
    return found


def human_responses(kit: Kit, answers: Sequence[HumanAnswer]) -> list[Response]:
    """The same for the analysis; traits are the questionnaire's answers."""
    tasks = kit.by_id()
    return [
        Response(
            answer.participant,
            tasks[answer.task_id].user_id,
            tasks[answer.task_id].profile_type,
            answer.choice == tasks[answer.task_id].answer,
            answer.seconds,
            answer.questionnaire,
        )
        for answer in answers
    ]


def write_csv(kit: Kit, answers: Sequence[HumanAnswer], path: Path) -> None:
    """One row per answer. Raises FailedPrecondition if the file cannot be written."""
    responses = human_responses(kit, answers)
    try:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*COLUMNS, *QUESTIONS])
            for answer, response in zip(answers, responses, strict=True):
                code = completion_code(kit, answer.participant)
                task = [answer.task_id, response.user_id, response.profile_type]
                given = [answer.choice, int(bool(response.correct)), answer.seconds]
                person = [answer.participant, answer.worker, code, answer.assignment]
                writer.writerow([*person, *task, *given, *(answer.questionnaire[name] for name in QUESTIONS)])
    except OSError as error:
        raise FailedPrecondition(f"{path} cannot be written: {error.strerror}", reason="STORAGE") from error
