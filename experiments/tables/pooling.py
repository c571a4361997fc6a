"""Figures of several runs of one system as one: users of several seeds on one data set count once, with their mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.runs import Result
from experiments.systems import SYSTEMS
from langptune.evaluate.scores import Estimate, estimate

Values = Iterable[tuple[str, float | None]]  # (user, figure); None: this user has none


def by_system(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Runs by system, in the order of SYSTEMS."""
    found = {name: [each for each in results if each.config["identity"]["system"] == name] for name in SYSTEMS}
    return {name: own for name, own in found.items() if own}


def pooled_estimate(
    results: Sequence[Result], measures: Mapping[str, Mapping[str, Any]], values: Callable[[Mapping[str, Any]], Values]
) -> Estimate | None:
    """Mean and 95 % interval over users of what `values` finds in the measure of each run (by its name); None of nobody."""
    users: dict[tuple[str, str], list[float]] = {}
    for result in results:
        for user, value in values(measures[result.folder.name]):
            if value is not None:
                users.setdefault((result.config["identity"]["dataset_hash"], user), []).append(value)
    return estimate(np.array([np.mean(own) for own in users.values()])) if users else None


def cell(found: Estimate | None, form: str = ".3f") -> str:
    """`0.123 ± 0.004`, or a dash."""
    return "-" if found is None else f"{found.mean:{form}} ± {found.high - found.mean:{form}}"


def seeds_note(results: Sequence[Result]) -> str:
    """What every table says of its runs."""
    seeds = sorted({each.config["identity"]["seed"] for each in results})
    worlds = len({each.config["identity"]["dataset_hash"] for each in results})
    return f"Seeds {', '.join(map(str, seeds))}, {worlds} data set(s); ± is half a 95 % t-interval over users."
