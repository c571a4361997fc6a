"""Tables 5 and 6: the two-choice task by whoever has answered it, and how long its texts are.

The kit of tasks is written to study/kit.json; a plain count of shared words answers it at once. Answers of models
(`langptune study judge`) and people (`langptune study serve`) that lie beside the kit are in the tables the next time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.beyond.reopen import Reopened
from experiments.runs import Result, RunSpec
from experiments.settings import Settings
from experiments.study.analysis import Response, by_type, mcnemar, reading
from experiments.study.journal import read_journal
from experiments.study.judges import WordJudge
from experiments.study.judging import journal_path, judge_kit, responses_of
from experiments.study.report import MCNEMAR_HEAD, READING_HEAD, mcnemar_rows, reading_rows, table
from experiments.study.survey.results import human_answers, human_responses
from experiments.study.tasks import Kit, Wording, make_kit, write_kit
from experiments.tables.base import Experiment, Report
from experiments.tables.pooling import by_system

PROFILE_TYPES = ("noprofile-0", "langptune-0", "langptune")  # Section 4.6.1
USERS = 450
SEED = 1
HUMAN = "people"


def _plan(settings: Settings) -> list[RunSpec]:
    return [spec for spec in settings.specs(PROFILE_TYPES) if spec.seed == SEED]


def kit_of(results: Sequence[Result]) -> Kit:
    """The first USERS test users under every profile type."""
    runs = {name: Reopened(own[0]) for name, own in by_system(results).items()}
    first = runs[PROFILE_TYPES[0]]
    sessions = first.sessions[:USERS]
    texts = {name: [text.text for text in run.texts[: len(sessions)]] for name, run in runs.items()}
    profiles = {name: texts[name] for name in PROFILE_TYPES}
    return make_kit(sessions, first.dataset.items, profiles, wording=Wording.of(first.dataset.domain), seed=first.seed)


def answers(kit: Kit, folder: Path) -> dict[str, list[Response]]:
    """By respondent: the word count (asked now, if it was not before), every model's journal, the survey."""
    word_judge = WordJudge(kit.tasks)
    asyncio.run(judge_kit(kit, word_judge, journal_path(kit, folder, word_judge.name)))
    found: dict[str, list[Response]] = {}
    for path in sorted(journal_path(kit, folder, word_judge.name).parent.glob("*.jsonl")):
        for response in responses_of(kit, path):
            found.setdefault(response.respondent, []).append(response)
    events = [event for event in read_journal(folder / "survey.jsonl") if event["kit"] == kit.content_hash]
    people = human_responses(kit, human_answers(events))
    return {**found, HUMAN: people} if people else found


def _written(settings: Settings, results: Sequence[Result]) -> tuple[Kit, dict[str, list[Response]]]:
    kit, folder = kit_of(results), settings.out / "study"
    write_kit(kit, folder / "kit.json")
    return kit, answers(kit, folder)


def _table_5(settings: Settings, results: Sequence[Result]) -> Report:
    kit, found = _written(settings, results)
    kinds = kit.profile_types
    shares = {name: by_type(responses, kinds) for name, responses in found.items()}
    tests = {name: mcnemar(responses, kinds) for name, responses in found.items()}
    rows = [
        (
            name,
            kind,
            f"{one.share:.2%}",
            f"{one.low:.2%} to {one.high:.2%}",
            f"{one.right} of {one.answered}",
            f"{one.refused}",
        )
        for name, by_kind in shares.items()
        for kind, one in by_kind.items()
    ]
    notes = [
        f"{len(kit.user_ids)} test users of seed {SEED}; chance is 50 %. Intervals are Wilson's. No answer: not in the form."
    ]
    for name, own in tests.items():
        notes += ["", f"{name}: McNemar's exact two-sided test, Holm's correction over the pairs.", ""]
        notes += table(MCNEMAR_HEAD, mcnemar_rows(own)).splitlines()
    metrics = {
        name: {
            "accuracy": {kind: asdict(one) for kind, one in shares[name].items()},
            "mcnemar": [asdict(test) for test in tests[name]],
        }
        for name in found
    }
    head = ("respondent", "profile type", "accuracy", "95 % interval", "right", "no answer")
    return Report("Table 5: which item did the user take next?", head, rows, notes, {"kit": kit.content_hash, **metrics})


def _table_6(settings: Settings, results: Sequence[Result]) -> Report:
    kit, found = _written(settings, results)
    rows = reading(kit, found.get(HUMAN, []))
    notes = ["Seconds are people's, from the survey; a dash where nobody has taken part. Outliers: beyond 3 standard deviations."]
    metrics: Mapping[str, Any] = {name: asdict(row) for name, row in rows.items()}
    return Report("Table 6: lengths and reading time", READING_HEAD, reading_rows(rows), notes, metrics)


TABLE_5 = Experiment("interpretability", _plan, _table_5)
TABLE_6 = Experiment("lengths and reading time", _plan, _table_6)
