"""The survey without the web: who is on which page, what an answer does, which assignment is free. Safe to call from threads.

Every change is in the journal before it is acted on. An assignment belongs to one participant; who stays away for
`abandoned_after` seconds in the middle of one leaves it to somebody else, and what they have answered is not used.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from experiments.study.journal import Journal
from experiments.study.survey.assignment import Assignments
from experiments.study.survey.participant import QUESTIONS, Participant
from experiments.study.survey.screening import FILMS, Screening
from experiments.study.tasks import Kit, Task
from langptune.errors import FailedPrecondition, InvalidArgument, NotFound

MAX_WORKER = 128  # characters
ABANDONED_AFTER = 2 * 3600.0  # seconds


@dataclass(frozen=True, slots=True)
class Page:
    """What a participant sees now."""

    step: str
    done: int  # questions answered so far, screening included
    total: int
    question: Task | Screening | None = None
    code: str = ""  # at the end, for who has answered everything


class Survey:
    """A study under way. Raises FailedPrecondition if the journal belongs to another kit."""

    def __init__(
        self,
        kit: Kit,
        journal: Journal,
        *,
        screening: tuple[Screening, ...] = FILMS,
        abandoned_after: float = ABANDONED_AFTER,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.kit = kit
        self._journal = journal
        self._assignments = Assignments(kit)
        self._screening = screening
        self._abandoned_after = abandoned_after
        self._clock = clock
        self._lock = threading.RLock()
        self._people: dict[str, Participant] = {}
        for event in journal.records:
            if event["kit"] != kit.content_hash:
                raise FailedPrecondition(f"{journal.path} has answers to another kit", reason="OTHER_ANSWERS")
            self._take(event)

    def begin(self, worker: str = "") -> str:
        """Somebody has consented; returns their participant id, which nobody else can guess."""
        participant = secrets.token_urlsafe(16)
        with self._lock:
            self._note("consented", participant, worker=worker[:MAX_WORKER])
        return participant

    def page(self, participant: str) -> Page:
        """What they see now; the first time that they see a task is where its clock starts. Raises NotFound."""
        with self._lock:
            person = self._person(participant)
            if person.step == "task-1" and person.assignment is None:
                self._note("assigned", participant, assignment=self._free_assignment())
            if person.step not in person.shown:
                self._note("shown", participant, step=person.step)
            done = len(person.screening) + len(person.answers) + person.finished
            total = len(self._screening) + self._assignments.size + 1
            code = completion_code(self.kit, participant) if person.finished else ""
            return Page(person.step, done, total, self._question(person), code)

    def submit(self, participant: str, step: str, form: Mapping[str, str]) -> None:
        """Take the answer to `step`; one that is answered already stays as it is. Raises NotFound, or InvalidArgument."""
        with self._lock:
            person = self._person(participant)
            if step != person.step or step == "end":
                return
            if step == "questionnaire":
                self._note("questionnaire", participant, answers=_questionnaire(form))
                return
            choice = form.get("choice", "")
            if choice not in ("A", "B"):
                raise InvalidArgument("choice", "please choose one of the two")
            question = self._question(person)
            if isinstance(question, Screening):
                self._note("screened", participant, right=choice == question.answer)
            elif question is not None:
                seconds = round(self._clock() - person.shown.get(step, person.last_seen), 3)
                self._note("answered", participant, task_id=question.task_id, choice=choice, seconds=seconds)

    def counts(self) -> dict[str, int]:
        """How many people have come how far."""
        with self._lock:
            people = list(self._people.values())
        return {
            "consented": len(people),
            "screened_out": sum(person.screened_out for person in people),
            "finished": sum(person.finished for person in people),
            "assignments_in_a_round": self._assignments.per_round,
        }

    def _question(self, person: Participant) -> Task | Screening | None:
        kind, _, number = person.step.partition("-")
        if kind == "screening":
            return self._screening[int(number) - 1]
        if kind == "task" and person.assignment is not None:
            return self._assignments.tasks(person.assignment)[int(number) - 1]
        return None

    def _free_assignment(self) -> int:
        """The first that nobody has finished or is at work on."""
        late = self._clock() - self._abandoned_after
        taken = {person.assignment for person in self._people.values() if person.finished or person.last_seen > late}
        return next(number for number in range(len(self._people) + 1) if number not in taken)

    def _person(self, participant: str) -> Participant:
        if participant not in self._people:
            raise NotFound("participant", participant)
        return self._people[participant]

    def _note(self, kind: str, participant: str, **fields: Any) -> None:
        event = {"kit": self.kit.content_hash, "kind": kind, "participant": participant, "at": round(self._clock(), 3), **fields}
        self._journal.append(event)
        self._take(event)

    def _take(self, event: Mapping[str, Any]) -> None:
        name = event["participant"]
        if event["kind"] == "consented":
            self._people[name] = Participant(name, event["worker"], self._assignments.size, event["at"])
        else:
            self._people[name].take(event)


def completion_code(kit: Kit, participant: str) -> str:
    """What a participant hands to whoever recruited them."""
    return hashlib.sha256(f"{kit.content_hash}/{participant}".encode()).hexdigest()[:10].upper()


def _questionnaire(form: Mapping[str, str]) -> dict[str, str]:
    answers = {name: form.get(name, "") for name in QUESTIONS}
    for name, (_, allowed) in QUESTIONS.items():
        if answers[name] not in allowed:
            raise InvalidArgument(name, "please answer both questions")
    return answers
