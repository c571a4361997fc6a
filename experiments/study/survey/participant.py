"""What one participant has done so far, put together from the events of the journal, and what comes next.

An event is a plain record: kind, participant, at (seconds since 1970), and fields of its own. Nothing but events changes a
state, so a survey that was killed goes on where everybody was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.study.survey.screening import COUNT

QUESTIONS: dict[str, tuple[str, tuple[str, ...]]] = {  # Tables 7 and 8
    "english": ("How well can you read English?", ("Not at all", "Not well", "Well", "Very well")),
    "familiarity": (
        "How familiar are you with {noun} overall?",
        ("Not familiar", "Slightly familiar", "Moderately familiar", "Very familiar", "Extremely familiar"),
    ),
}


@dataclass
class Participant:
    """One person, from consent on."""

    participant_id: str
    worker: str  # the name that a recruiting platform knows them by; "" if there is none
    tasks: int  # that a participant gets
    last_seen: float  # seconds since 1970
    shown: dict[str, float] = field(default_factory=dict)  # step -> when its page was first shown
    screening: list[bool] = field(default_factory=list)  # right or wrong
    assignment: int | None = None
    answers: list[tuple[str, float]] = field(default_factory=list)  # (choice, seconds), in the order of the assignment
    questionnaire: dict[str, str] | None = None

    @property
    def screened_out(self) -> bool:
        """Whether a screening question was answered wrongly; told only after all of them."""
        return len(self.screening) == COUNT and not all(self.screening)

    @property
    def finished(self) -> bool:
        """Whether all is answered."""
        return self.questionnaire is not None

    @property
    def step(self) -> str:
        """`screening-1` ..., `task-1` ..., `questionnaire`, or `end`: what is to be answered now."""
        if len(self.screening) < COUNT:
            return f"screening-{len(self.screening) + 1}"
        if self.screened_out or self.finished:
            return "end"
        return f"task-{len(self.answers) + 1}" if len(self.answers) < self.tasks else "questionnaire"

    def take(self, event: Mapping[str, Any]) -> None:
        """Add what happened."""
        self.last_seen = event["at"]
        match event["kind"]:
            case "shown":
                self.shown.setdefault(event["step"], event["at"])
            case "screened":
                self.screening.append(event["right"])
            case "assigned":
                self.assignment = event["assignment"]
            case "answered":
                self.answers.append((event["choice"], event["seconds"]))
            case "questionnaire":
                self.questionnaire = event["answers"]
