"""Tables 2 and 3: ranking quality of the interpretable systems, and of all kinds of recommenders, LangPTune against each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from experiments.runs import Result, RunSpec
from experiments.settings import Settings
from experiments.statistics import ALPHA, Tested, pooled, tested
from experiments.systems import SYSTEMS, entry
from experiments.tables.base import Experiment, Report
from langptune.evaluate.scores import Estimate, Scores

INTERPRETABLE = ("langptune-0", "langptune-cl", "langptune-rlso", "langptune")
CHAMPION = "langptune"
ALL_TYPES = (*(name for name, about in SYSTEMS.items() if about.kind in ("No Profile", "Black-Box Profile")), CHAMPION)
HEAD = ("type", "method", "Recall@20", "MRR@20", "NDCG@20", "LangPTune's NDCG@20 against it", "p (Holm)")


def _plan(systems: Sequence[str]) -> Callable[[Settings], list[RunSpec]]:
    return lambda settings: settings.specs(systems)


def _report(title: str) -> Callable[[Settings, Sequence[Result]], Report]:
    def report(settings: Settings, results: Sequence[Result]) -> Report:
        scores = scores_by_system(results)
        return accuracy_report(title, scores, notes=pooling_notes(results, scores[CHAMPION]))

    return report


def scores_by_system(results: Sequence[Result]) -> dict[str, Scores]:
    """Pooled over seeds, in the order of SYSTEMS."""
    return {
        name: pooled(own) for name in SYSTEMS if (own := [each for each in results if each.config["identity"]["system"] == name])
    }


def accuracy_report(title: str, scores: dict[str, Scores], notes: Sequence[str]) -> Report:
    """A row a system; LangPTune against each of the others."""
    tests = tested(scores[CHAMPION], {name: each for name, each in scores.items() if name != CHAMPION})
    rows = [_row(name, each, tests.get(name)) for name, each in scores.items()]
    metrics = {
        name: {
            **each.summary(),
            "against": None
            if name not in tests
            else {"ratio": tests[name].comparison.ratio, "p": tests[name].comparison.p_value, "p_holm": tests[name].adjusted},
        }
        for name, each in scores.items()
    }
    return Report(title, HEAD, rows, notes, metrics, _bars(title, scores))


def pooling_notes(results: Sequence[Result], champion: Scores) -> list[str]:
    """What a reader must know to read the intervals and tests."""
    seeds = sorted({each.config["identity"]["seed"] for each in results})
    worlds = len({each.config["identity"]["dataset_hash"] for each in results})
    return [
        f"{len(champion.user_ids):,} test users, seeds {', '.join(map(str, seeds))}, {worlds} data set(s); ± is half a 95 % "
        "t-interval over users. Two-sided paired t-tests per user on NDCG@20 with Holm's correction over the rows of this table; "
        f"* p < {ALPHA}. Users of several seeds on one data set count once, with their mean; the tests do not cover differences "
        "between trainings."
    ]


def _row(name: str, scores: Scores, test: Tested | None) -> tuple[str, ...]:
    about = entry(name)
    found = scores.estimates()
    cells = [_cell(found[metric]) for metric in ("recall", "mrr", "ndcg")]
    if test is None:
        return (about.kind, f"**{about.title}**", *cells, "", "")
    change = test.comparison.ratio - 1
    return (about.kind, about.title, *cells, f"{change:+.1%}{'*' if test.significant else ''}", f"{test.adjusted:.1e}")


def _cell(found: Estimate) -> str:
    return f"{found.mean:.4f} ± {found.high - found.mean:.4f}"


def _bars(title: str, scores: dict[str, Scores]) -> Figure:
    figure = Figure(figsize=(8, 0.4 * len(scores) + 1.5))
    axis = figure.subplots()
    names = list(reversed(scores))
    found = [scores[name].estimates()["ndcg"] for name in names]
    means = [each.mean for each in found]
    axis.barh([entry(name).title for name in names], means, xerr=[each.high - each.mean for each in found])
    axis.set_xlabel("NDCG@20, 95 % intervals over users")
    axis.set_title(title)
    figure.tight_layout()
    return figure


TABLE_2 = Experiment("interpretable profile methods", _plan(INTERPRETABLE), _report("Table 2: interpretable profile methods"))
TABLE_3 = Experiment("all types of recommenders", _plan(ALL_TYPES), _report("Table 3: different types of recommenders"))
