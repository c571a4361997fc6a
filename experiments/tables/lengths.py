"""Table 4: LangPTune with shorter profiles, and NoProfile, which has no bottleneck at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from experiments.runs import Result, RunSpec
from experiments.settings import Settings
from experiments.statistics import compare_all, pooled
from experiments.systems import SYSTEMS, Values, entry
from experiments.systems.language import config_of
from experiments.tables.base import Experiment, Report
from experiments.tables.parts import CHAMPION, HEAD, cells, change, plain, pooling_note, scores_by_system
from langptune.evaluate.scores import Scores

SHARES = (1 / 8, 1 / 4, 1 / 2, 1)  # of the longest profile: 64, 128, 256, 512 tokens in the paper; 10 ... 80 on the sample world
NO_BOTTLENECK = tuple(name for name, about in SYSTEMS.items() if about.kind == "No Bottleneck")


def shortened(values: Values, share: float) -> Values:
    """The same hyperparameters with `share` of the longest profile, in training and in measurement."""
    if share == 1:
        return values  # the very run of the other tables
    overrides: Mapping[str, Any] = values["overrides"]
    rlso = {**overrides.get("rlso", {}), "max_new_tokens": max(1, round(share * longest_profile(values)))}
    return {**values, "overrides": {**overrides, "rlso": rlso}}


def longest_profile(values: Values) -> int:
    """Tokens."""
    return config_of(values).rlso.max_new_tokens


def _plan(settings: Settings) -> list[RunSpec]:
    specs = settings.specs(NO_BOTTLENECK)
    for share in SHARES:
        specs += settings.specs([CHAMPION], candidates=tuple(shortened(each, share) for each in settings.candidates(CHAMPION)))
    return specs


def _report(settings: Settings, results: Sequence[Result]) -> Report:
    by_length: dict[int, list[Result]] = {}
    for result in results:
        if result.config["identity"]["system"] == CHAMPION:
            by_length.setdefault(longest_profile(result.config["chosen"]), []).append(result)
    lengths = {length: pooled(own) for length, own in sorted(by_length.items())}
    longest = lengths[max(lengths)]
    without = scores_by_system([each for each in results if each.config["identity"]["system"] != CHAMPION])
    labelled = {(CHAMPION, str(length)): each for length, each in lengths.items()}
    labelled |= {(name, "N/A"): each for name, each in without.items()}
    tests = compare_all({label: (each, longest) for label, each in labelled.items() if each is not longest})
    rows = [(entry(label[0]).title, label[1], *cells(each), *change(tests.get(label))) for label, each in labelled.items()]
    metrics = {" ".join(label): plain(each, tests.get(label)) for label, each in labelled.items()}
    head = ("method", "profile length", *HEAD, "the longest's NDCG@20 against it", "p (Holm)")
    notes = [
        "Length: the most tokens of a profile, in training and in measurement.",
        pooling_note(results, len(longest.user_ids)),
    ]
    return Report("Table 4: profile length", head, rows, notes, metrics, _picture(lengths, without))


def _picture(lengths: Mapping[int, Scores], without: Mapping[str, Scores]) -> Figure:
    figure = Figure(figsize=(6, 4))
    axis = figure.subplots()
    found = [each.estimates()["ndcg"] for each in lengths.values()]
    half = [each.high - each.mean for each in found]
    axis.errorbar(list(lengths), [each.mean for each in found], yerr=half, marker="o", label=entry(CHAMPION).title)
    for at, (name, each) in enumerate(without.items(), start=1):
        axis.axhline(each.estimates()["ndcg"].mean, linestyle="--", color=f"C{at}", label=entry(name).title)
    axis.set(xscale="log", xlabel="longest profile, tokens", ylabel="NDCG@20")
    axis.set_xticks(list(lengths), [str(length) for length in lengths])
    axis.minorticks_off()
    axis.legend()
    figure.tight_layout()
    return figure


TABLE_4 = Experiment("profile length", _plan, _report)
