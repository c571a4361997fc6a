"""The thirteen systems by name: how each is made, and which hyperparameters validation users choose among.

Modules with torch are imported when a system is made, so that the command line is quick. The paper's values (Appendix B) are
presets of their own; the grids are ours, sized for data sets of a few thousand users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from langptune.errors import InvalidArgument

if TYPE_CHECKING:
    from experiments.in_process import ModelNames
    from experiments.systems.base import System

Values = Mapping[str, Any]  # one setting of the hyperparameters, as JSON has it
Kind = Literal["No Profile", "Black-Box Profile", "No Bottleneck", "Interpretable Profile"]
Need = Literal["encoder", "embedder"]


@dataclass(frozen=True)
class Context:
    """What a system is made with besides its hyperparameters."""

    seed: int
    models: ModelNames


@dataclass(frozen=True)
class Entry:
    """One system."""

    title: str  # as the paper prints it
    kind: Kind
    make: Callable[[Values, Context], System]
    full: tuple[Values, ...]  # candidates; the best on validation users is measured
    quick: tuple[Values, ...]  # one candidate, for a first look and for the tests
    paper: Values  # Appendix B
    seconds: float  # CPU time of the full grid on the sample world, roughly: the longest go first, and the time left is guessed
    needs: frozenset[Need] = frozenset()


def _random(values: Values, context: Context) -> System:
    from experiments.systems.simple import Random

    return Random(context.seed, **values)


def _most_popular(values: Values, context: Context) -> System:
    from experiments.systems.simple import MostPopular

    return MostPopular(**values)


def _language(values: Values, context: Context) -> System:
    from experiments.systems.language import LanguageOptions, LanguageSystem

    return LanguageSystem(LanguageOptions(**values), context.models, context.seed)


_QUICK_CL = {"batches": 4, "final_batches": 0, "batch_size": 16, "catalogue_negatives": 16}
_QUICK_RLSO = {"batches": 3, "histories": 4, "samples": 4}
_NO_CL = {"contrastive": {"batches": 0, "final_batches": 0}}
_NO_RLSO = {"rlso": {"batches": 0}}


def _variant(title: str, kind: Kind, full: Values, quick: Values, paper: str, seconds: float) -> Entry:
    history = kind == "No Bottleneck"
    source = {"profile_source": "history"} if history else {}
    return Entry(
        title,
        kind,
        _language,
        full=({"preset": "sample", "overrides": {**full, **source}},),
        quick=({"preset": "sample", "overrides": {**quick, **source}, "samples": 1},),
        paper={"preset": paper, "overrides": {**full, **source}, "samples": 1},
        seconds=seconds,
        needs=frozenset({"encoder", "embedder"}),
    )


_ZERO = {"outer_iterations": 0}
_Q_CL, _Q_RLSO = {"contrastive": _QUICK_CL}, {"rlso": _QUICK_RLSO}

SYSTEMS: Mapping[str, Entry] = {
    "random": Entry("Random", "No Profile", _random, ({},), ({},), {}, 5),
    "most-popular": Entry("MP", "No Profile", _most_popular, ({},), ({},), {}, 2),
    "noprofile-0": _variant("NoProfile-0", "No Bottleneck", _ZERO | _NO_RLSO, _ZERO | _NO_RLSO, "paper/noprofile-cl", 20),
    "noprofile-cl": _variant("NoProfile-CL", "No Bottleneck", _NO_RLSO, _NO_RLSO | _Q_CL, "paper/noprofile-cl", 90),
    "langptune-0": _variant("LangPTune-0", "Interpretable Profile", _ZERO, _ZERO, "paper/gemma-2b-it", 60),
    "langptune-cl": _variant("LangPTune-CL", "Interpretable Profile", _NO_RLSO, _NO_RLSO | _Q_CL, "paper/cl-only", 120),
    "langptune-rlso": _variant("LangPTune-RLSO", "Interpretable Profile", _NO_CL, _NO_CL | _Q_RLSO, "paper/rlso-only", 200),
    "langptune": _variant("LangPTune", "Interpretable Profile", {}, _Q_CL | _Q_RLSO, "paper/gemma-2b-it", 300),
}


def entry(name: str) -> Entry:
    """Raises InvalidArgument for a name that is not in SYSTEMS."""
    if name not in SYSTEMS:
        raise InvalidArgument("systems", f"must be among {', '.join(SYSTEMS)}, not {name!r}")
    return SYSTEMS[name]
