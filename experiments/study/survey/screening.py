"""Three questions that anybody who reads them gets right; who does not get all three right is thanked and leaves.

These are for films. A study of something else gives its own as a JSON file: a list of three objects with the fields of Screening.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from experiments.study.tasks import Choice
from langptune.errors import FailedPrecondition, NotFound

COUNT = 3


@dataclass(frozen=True, slots=True)
class Screening:
    """A question as a task has it."""

    profile: str
    options: tuple[str, str]
    answer: Choice


FILMS = (
    Screening(
        "The user has watched all the films of a long saga about starships, a rebellion and an evil empire, except the last "
        "one. They gave each five stars and wrote that they cannot wait to see how the rebels win.",
        (
            "Title: A Wedding in the Village\nDescription: A gentle comedy about two families and one cake.\nCategory: Comedy",
            "Title: The Empire's Last Day\nDescription: The rebels board the emperor's flagship. The saga of the starships "
            "ends here.\nCategory: Science Fiction",
        ),
        "B",
    ),
    Screening(
        "The user likes hand-drawn animation from Japan, forest spirits, and stories about people and nature. They find car "
        "chases dull.",
        (
            "Title: The Spirit of the Cedar\nDescription: A hand-drawn Japanese film: a girl defends an old forest and its "
            "spirits.\nCategory: Animation, Anime",
            "Title: Full Throttle 4\nDescription: Two hours of car chases through four cities.\nCategory: Action",
        ),
        "A",
    ),
    Screening(
        "This viewer loves documentaries about cooking and has seen everything about bread. Horror gives them nightmares, they "
        "say, so they never watch it.",
        (
            "Title: The Cellar\nDescription: Something waits under the stairs. Not for the faint of heart.\nCategory: Horror",
            "Title: Flour, Water, Salt\nDescription: A documentary about five bakers and their bread.\nCategory: Documentary",
        ),
        "B",
    ),
)


def read_screening(path: Path) -> tuple[Screening, ...]:
    """Raises NotFound, or FailedPrecondition for anything but three questions."""
    try:
        raw = json.loads(path.read_text())
        questions = tuple(Screening(q["profile"], (q["options"][0], q["options"][1]), q["answer"]) for q in raw)
    except FileNotFoundError as error:
        raise NotFound("screening file", str(path)) from error
    except (ValueError, LookupError, TypeError) as error:
        raise FailedPrecondition(f"{path} holds no screening questions: {error}", reason="SCREENING") from error
    if len(questions) != COUNT or any(question.answer not in ("A", "B") for question in questions):
        raise FailedPrecondition(f"{path} must hold {COUNT} questions with answer A or B", reason="SCREENING")
    return questions
