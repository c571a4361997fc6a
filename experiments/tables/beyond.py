"""Beyond the paper: steering, profiles as texts, and how much history a profile needs; a row for every interpretable system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from experiments.beyond import histories, profiles, steering
from experiments.beyond.cache import Measure
from experiments.runs import Result, RunSpec
from experiments.settings import Preset, Settings
from experiments.systems import entry
from experiments.tables.base import Experiment, Report
from experiments.tables.pooling import Values, by_system, cell, pooled_estimate, seeds_note
from langptune.evaluate.scores import Estimate

INTERPRETABLE = ("noprofile-0", "noprofile-cl", "langptune-0", "langptune-cl", "langptune-rlso", "langptune")
USERS = {Preset.QUICK: 12, Preset.FULL: 200}  # asked about; edits and further profiles are made for them
EDITS_EACH = 2  # attributes of each kind for each user
STEERING_FIGURES = ("success", "shift", "top_before", "top_after", "collateral")


def _plan(settings: Settings) -> list[RunSpec]:
    return settings.specs(INTERPRETABLE)


def _steering(settings: Settings, results: Sequence[Result]) -> Report:
    users = USERS[settings.preset]
    take = partial(steering.steer, users=users, each=EDITS_EACH)
    measure = Measure("steering", {"users": users, "each": EDITS_EACH}, take)
    taken = measure.of(results, settings)
    rows, metrics = [], {}
    for name, own in by_system(results).items():
        for kind in steering.KINDS:
            for direction in steering.DIRECTIONS:
                found = {
                    figure: pooled_estimate(own, taken, partial(_moved, kind=kind, direction=direction, figure=figure))
                    for figure in STEERING_FIGURES
                }
                metrics[f"{name}/{kind}/{direction}"] = _plain(found)
                cells = [cell(found[figure], "+.3f" if figure == "shift" else ".3f") for figure in STEERING_FIGURES]
                rows.append((entry(name).title, kind, direction, *cells))
    head = ("method", "attribute", "edit", "success rate", "rank shift", "in the top 20 before", "after", "collateral change")
    notes = [
        f"{users} users, {EDITS_EACH} attributes of each kind for each, the same for every method. Definitions: docs/metrics.md.",
        seeds_note(results),
    ]
    return Report("Steering: edits towards and away from an attribute", head, rows, notes, metrics, _shifts(metrics))


def _moved(measure: Mapping[str, Any], *, kind: str, direction: str, figure: str) -> Values:
    found: dict[str, list[float]] = {}
    for row in measure["rows"]:
        if (row["kind"], row["direction"]) == (kind, direction):
            found.setdefault(row["user"], []).append(row[figure])
    return [(user, fmean(own)) for user, own in found.items()]


def _shifts(metrics: Mapping[str, Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(9, 4))
    axes = figure.subplots(1, len(steering.DIRECTIONS), sharey=True)
    names = list(dict.fromkeys(key.split("/")[0] for key in metrics))
    for axis, direction in zip(axes, steering.DIRECTIONS, strict=True):
        for offset, kind in enumerate(steering.KINDS):
            found = [metrics[f"{name}/{kind}/{direction}"]["shift"] for name in names]
            means = [each["mean"] if each else 0.0 for each in found]
            spread = [each["high"] - each["mean"] if each else 0.0 for each in found]
            axis.barh([at + 0.25 * offset for at in range(len(names))], means, 0.25, xerr=spread, label=kind)
        axis.set_title(direction)
        axis.set_xlabel("rank shift in the asked direction")
    axes[0].set_yticks([at + 0.25 for at in range(len(names))], [entry(name).title for name in names])
    axes[-1].legend()
    figure.tight_layout()
    return figure


def _profiles(settings: Settings, results: Sequence[Result]) -> Report:
    measure = Measure("profiles", {}, profiles.measure)
    taken = measure.of(results, settings)
    rows, metrics = [], {}
    for name, own in by_system(results).items():
        measures = [taken[result.folder.name] for result in own]
        found = {
            "faithfulness": pooled_estimate(own, taken, _faithful),
            "claims": pooled_estimate(own, taken, lambda one: [(row["user"], row["claims"]) for row in one["rows"]]),
            "flesch": pooled_estimate(own, taken, lambda one: [(row["user"], row["flesch"]) for row in one["rows"]]),
        }
        chance = fmean(one["chance"] for one in measures)
        readable = {key: fmean(one["readability"][key] for one in measures) for key in measures[0]["readability"]}
        polarity = [one["polarity"] for one in measures if one["polarity"]]
        opinions = {key: fmean(one[key] for one in polarity) for key in polarity[0]} if polarity else {}
        metrics[name] = {**_plain(found), "chance": chance, "readability": readable, **opinions}
        spoken = [f"{opinions[key]:.3f}" if opinions else "-" for key in ("likes", "dislikes", "grammar")]
        rows.append(
            (
                entry(name).title,
                cell(found["faithfulness"]),
                f"{chance:.3f}",
                *spoken,
                cell(found["claims"], ".1f"),
                f"{readable['words']:.0f}",
                cell(found["flesch"], ".1f"),
                f"{readable['distinct_2']:.3f}",
                f"{readable['wordlike']:.3f}",
                f"{readable['terminated']:.3f}",
            )
        )
    head = (
        *("method", "faithfulness", "by chance", "likes true", "dislikes true", "grammar", "claims"),
        *("words", "Flesch reading ease", "distinct pairs", "wordlike", "ended"),
    )
    notes = ["One text per user; the text of NoProfile is the history. Definitions: docs/metrics.md.", seeds_note(results)]
    return Report("Profiles as texts: faithfulness and readability", head, rows, notes, metrics)


def _faithful(measure: Mapping[str, Any]) -> Values:
    return [(row["user"], row["supported"] / row["claims"] if row["claims"] else None) for row in measure["rows"]]


def _histories(settings: Settings, results: Sequence[Result]) -> Report:
    users = USERS[settings.preset]
    measure = Measure("histories", {"users": users}, partial(histories.measure, users=users))
    taken = measure.of(results, settings)
    rows, metrics, reached = [], {}, set()
    for name, own in by_system(results).items():
        found = {str(k): pooled_estimate(own, taken, partial(_at_length, length=str(k))) for k in histories.LENGTHS}
        reached |= {k for k, value in found.items() if value}
        metrics[name] = _plain(found)
        rows.append((entry(name).title, *(cell(value, ".4f") for value in found.values())))
    head = ("method", *(f"k = {length}" for length in histories.LENGTHS))
    notes = [
        f"NDCG@20 of {users} test users by profiles of their last k items; the whole history is masked for every k. The systems "
        "were trained on histories of the data set's own length. A dash: no such histories.",
        "Cross-domain recommendation is not measured: no second domain with the same users exists here.",
        seeds_note(results),
    ]
    return Report("Cold start and long histories", head, rows, notes, metrics, _curves(metrics, sorted(reached, key=int)))


def _at_length(measure: Mapping[str, Any], *, length: str) -> Values:
    return list(zip(measure["users"], measure["ndcg"].get(length, []), strict=False))


def _curves(metrics: Mapping[str, Mapping[str, Any]], lengths: Sequence[str]) -> Figure:
    figure = Figure(figsize=(6, 4))
    axis = figure.subplots()
    for name, found in metrics.items():
        axis.plot([int(k) for k in lengths], [found[k]["mean"] for k in lengths], marker="o", label=entry(name).title)
    axis.set(xscale="log", xlabel="items that the profile is written from", ylabel="NDCG@20")
    axis.set_xticks([int(k) for k in lengths], lengths)
    axis.minorticks_off()
    axis.legend(fontsize="small")
    figure.tight_layout()
    return figure


def _plain(found: Mapping[str, Estimate | None]) -> dict[str, Any]:
    return {name: asdict(value) if value else None for name, value in found.items()}


STEERING = Experiment("steering", _plan, _steering)
PROFILES = Experiment("profiles as texts", _plan, _profiles)
HISTORIES = Experiment("cold start and long histories", _plan, _histories)
