"""Tables 2 and 3: ranking quality of the interpretable systems, and of all kinds of recommenders; LangPTune against each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from experiments.runs import Result
from experiments.settings import Settings
from experiments.statistics import compare_all
from experiments.systems import SYSTEMS, entry
from experiments.tables.base import Experiment, Report
from experiments.tables.parts import AGAINST, CHAMPION, HEAD, bars, cells, change, plain, pooling_note, scores_by_system

INTERPRETABLE = tuple(name for name, about in SYSTEMS.items() if about.kind == "Interpretable Profile")
ALL_TYPES = (*(name for name in SYSTEMS if name not in INTERPRETABLE), CHAMPION)  # NoProfile, too: the paper has it in Table 4


def _experiment(title: str, systems: Sequence[str]) -> Experiment:
    return Experiment(title, lambda settings: settings.specs(systems), _report(title))


def _report(title: str) -> Callable[[Settings, Sequence[Result]], Report]:
    def report(settings: Settings, results: Sequence[Result]) -> Report:
        scores = scores_by_system(results)
        champion = scores[CHAMPION]
        tests = compare_all({name: (each, champion) for name, each in scores.items() if name != CHAMPION})
        rows = [(entry(name).kind, entry(name).title, *cells(each), *change(tests.get(name))) for name, each in scores.items()]
        metrics = {name: plain(each, tests.get(name)) for name, each in scores.items()}
        notes = [pooling_note(results, len(champion.user_ids))]
        return Report(title, ("type", "method", *HEAD, *AGAINST), rows, notes, metrics, bars(title, scores))

    return report


TABLE_2 = _experiment("Table 2: interpretable profile methods", INTERPRETABLE)
TABLE_3 = _experiment("Table 3: different types of recommenders", ALL_TYPES)
