"""Tables 5 to 8 as Markdown: rows of cells, so that the experiments' tables are made of the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.study.analysis import Accuracy, McNemar, Reading, Response, breakdown, by_type, mcnemar, reading
from experiments.study.survey.participant import QUESTIONS
from experiments.study.survey.results import HumanAnswer, human_responses
from experiments.study.tasks import Kit

Row = tuple[str, ...]
ACCURACY_HEAD = ("profile type", "right", "of", "no answer", "accuracy", "95 % interval (Wilson)")
MCNEMAR_HEAD = (
    "first",
    "second",
    "users",
    "right under the first alone",
    "under the second alone",
    "p (McNemar, exact)",
    "p (Holm)",
)
READING_HEAD = ("text", "characters", "words", "seconds, outliers left out")


def accuracy_rows(found: Mapping[str, Accuracy]) -> list[Row]:
    """Of ACCURACY_HEAD."""
    return [
        (kind, f"{one.right}", f"{one.answered}", f"{one.refused}", f"{one.share:.2%}", f"{one.low:.2%} to {one.high:.2%}")
        for kind, one in found.items()
    ]


def mcnemar_rows(tests: Sequence[McNemar]) -> list[Row]:
    """Of MCNEMAR_HEAD."""
    return [
        (
            test.first,
            test.second,
            f"{test.users}",
            f"{test.first_only}",
            f"{test.second_only}",
            f"{test.p_value:.3f}",
            f"{test.p_adjusted:.3f}",
        )
        for test in tests
    ]


def reading_rows(rows: Mapping[str, Reading]) -> list[Row]:
    """Of READING_HEAD."""
    return [(name, f"{row.characters:.0f}", f"{row.words:.0f}", _seconds(row.seconds)) for name, row in rows.items()]


def table(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def human_report(kit: Kit, answers: Sequence[HumanAnswer]) -> str:
    """Everything that the paper reports of its human study."""
    responses = human_responses(kit, answers)
    kinds = kit.profile_types
    people = len({answer.participant for answer in answers})
    parts = [
        f"# The human study: {people} participants, {len(answers)} answers",
        f"Kit {kit.content_hash[:16]}. Only participants who answered everything count, one for each assignment.",
        "## Accuracy (Table 5)",
        table(ACCURACY_HEAD, accuracy_rows(by_type(responses, kinds))),
        table(MCNEMAR_HEAD, mcnemar_rows(mcnemar(responses, kinds))),
        "## Length and reading time (Table 6)",
        table(READING_HEAD, reading_rows(reading(kit, responses))),
    ]
    for name, (question, _) in QUESTIONS.items():
        asked = question.format(noun=kit.wording.noun)
        parts += [f'## "{asked}" (Tables 7 and 8)', _breakdown_table(responses, name, kinds)]
    return "\n\n".join(parts) + "\n"


def _breakdown_table(responses: Sequence[Response], question: str, kinds: Sequence[str]) -> str:
    head = ("answer", "respondents", *(f"accuracy, {kind}" for kind in kinds), *(f"seconds, {kind}" for kind in kinds))
    rows = [
        (
            group.answer,
            f"{group.respondents}",
            *(f"{group.accuracy[kind].share:.2%}" if group.accuracy[kind].answered else "-" for kind in kinds),
            *(_seconds(group.seconds[kind]) for kind in kinds),
        )
        for group in breakdown(responses, question, kinds)
    ]
    return table(head, rows)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
