"""What a respondent reads, and how a model's answer is read back (Appendix D).

A model gives its reason first and its choice last, in a fixed form. Whatever is not in that form is no answer: nothing is guessed
from it, it is counted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

from experiments.study.tasks import Choice, Task, Wording

INTRODUCTION = "Here's some information about the user."
QUESTION = "The user {verb} one of the following two {noun} next. Which one do you think it is?"
ANSWER_FORM = (
    "Instructions:\n\nFIRST provide a one-sentence justification of your choice.\n\n"
    'SECOND, on a new line, state only "A" or "B" to indicate your choice. Your response should use the format:\n\n'
    'Justification: <one-sentence explanation>\n\nChoice: <"A" or "B">'
)
_FORM = re.compile(r"\s*Justification:[ \t]*(\S[^\n]*?)[ \t]*\n\s*Choice:[ \t]*(?:\"([AB])\"|([AB]))\.?\s*")


@dataclass(frozen=True, slots=True)
class Answer:
    """A choice in the form that was asked for."""

    choice: Choice
    justification: str


def question(wording: Wording) -> str:
    """The sentence between the profile and the two items."""
    return QUESTION.format(verb=wording.verb, noun=wording.noun)


def prompt(task: Task, wording: Wording) -> str:
    """The whole user message for a model."""
    first, second = task.options
    parts = (INTRODUCTION, task.profile, question(wording), f"A:\n\n{first}", f"B:\n\n{second}", ANSWER_FORM)
    return "\n\n".join(parts)


def parse_answer(text: str) -> Answer | None:
    """The answer that `text` is, the whole of it; None for anything else."""
    found = _FORM.fullmatch(text)
    return Answer(cast(Choice, found.group(2) or found.group(3)), found.group(1)) if found else None
