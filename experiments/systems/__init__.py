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
    pretrained: tuple[Values, ...] = ()  # candidates in place of `full` where the embedder is not the sample world's own


def _random(values: Values, context: Context) -> System:
    from experiments.systems.simple import Random

    return Random(context.seed, **values)


def _most_popular(values: Values, context: Context) -> System:
    from experiments.systems.simple import MostPopular

    return MostPopular(**values)


def _nmf(values: Values, context: Context) -> System:
    from experiments.systems.factorisation import NmfOptions, NonNegativeFactors

    return NonNegativeFactors(NmfOptions(**values), context.seed)


def _lightgcn(values: Values, context: Context) -> System:
    from experiments.systems.graph import GraphOptions, LightGcn

    return LightGcn(GraphOptions(**_patient(values)), context.seed)


def _mcl(values: Values, context: Context) -> System:
    from experiments.systems.mixed_centric import Mcl, MclOptions

    return Mcl(MclOptions(**_patient(values)), context.seed)


def _bert4rec(values: Values, context: Context) -> System:
    from experiments.systems.bert import Bert4Rec, BertOptions

    return Bert4Rec(BertOptions(**_patient(values)), context.seed)


def _llm2bert4rec(values: Values, context: Context) -> System:
    from experiments.systems.bert import Bert4Rec, BertOptions

    return Bert4Rec(BertOptions(**_patient(values)), context.seed, context.models.embedder)


def _patient(values: Values) -> dict[str, Any]:
    from experiments.systems.stopping import Patience

    return {**values, "patience": Patience(**values.get("patience", {}))}


def _language(values: Values, context: Context) -> System:
    from experiments.systems.language import LanguageOptions, LanguageSystem

    return LanguageSystem(LanguageOptions(**values), context.models, context.seed)


_EMBEDDER: frozenset[Need] = frozenset({"embedder"})
_QUICK_CL = {"batches": 4, "final_batches": 0, "batch_size": 16, "catalogue_negatives": 16}
_QUICK_RLSO = {"batches": 3, "histories": 4, "samples": 4}
_NO_CL = {"contrastive": {"batches": 0, "final_batches": 0}}
_PRETRAINED_CL = {"batch_size": 16, "catalogue_negatives": 16}  # 48 texts a batch through a model of millions of parameters
_PRETRAINED_RATES = (2e-5, 1e-4)
_NO_RLSO = {"rlso": {"batches": 0}}


def _variant(title: str, kind: Kind, full: Values, quick: Values, paper: str, seconds: float) -> Entry:
    history = kind == "No Bottleneck"
    source = {"profile_source": "history"} if history else {}
    contrastive = _PRETRAINED_CL | full.get("contrastive", {})
    rates = _PRETRAINED_RATES if full.get("outer_iterations") != 0 and contrastive.get("batches") != 0 else _PRETRAINED_RATES[:1]
    return Entry(
        title,
        kind,
        _language,
        full=({"preset": "sample", "overrides": {**full, **source}},),
        quick=({"preset": "sample", "overrides": {**quick, **source}, "samples": 1},),
        paper={"preset": paper, "overrides": {**full, **source}, "samples": 1},
        seconds=seconds,
        needs=_EMBEDDER if history else _EMBEDDER | {"encoder"},
        pretrained=tuple(
            {"preset": "sample", "overrides": {**full, **source, "contrastive": {**contrastive, "learning_rate": rate}}}
            for rate in rates
        ),
    )


_ZERO = {"outer_iterations": 0}
_Q_CL, _Q_RLSO = {"contrastive": _QUICK_CL}, {"rlso": _QUICK_RLSO}

_BRIEF = {"epochs": 10, "every": 5, "looks": 2}
_WATCHED = {"epochs": 60, "every": 5, "looks": 3}
_GRAPH_GRID = tuple({"rate": 5e-3, "layers": layers, "patience": _WATCHED} for layers in (1, 3))
_GRAPH_PAPER = {"rate": 1e-3, "batch_size": 1_000, "dimension": 512, "layers": 3}
_BERT = {"mask_share": 0.5, "batch_size": 128, "decay_step": 1_000, "patience": _WATCHED}  # epochs are short: no decay
_BERT_GRID = tuple({**_BERT, "dropout": dropout} for dropout in (0.1, 0.3))
_BERT_PAPER = {"batch_size": 128, "rate": 1e-3, "decay_step": 25, "dropout": 0.1, "hidden": 512, "mask_share": 0.5, "heads": 4}
_TEXT_GRID = tuple({**_BERT, "text_scale": scale} for scale in (0.05, 0.2))
_MCL_PAPER = {"negatives": 10, "alpha": 1.25, "beta": 5.0, "lambda_p": 6.5, "lambda_n": -0.5}

SYSTEMS: Mapping[str, Entry] = {
    "random": Entry("Random", "No Profile", _random, ({},), ({},), {}, 5),
    "most-popular": Entry("MP", "No Profile", _most_popular, ({},), ({},), {}, 2),
    "nmf": Entry(
        "NMF",
        "Black-Box Profile",
        _nmf,
        full=tuple({"components": components} for components in (8, 32, 128)),
        quick=({"components": 8, "sweeps": 50},),
        paper={"components": 1_000},
        seconds=10,
    ),
    "lightgcn": Entry(
        "LightGCN",
        "Black-Box Profile",
        _lightgcn,
        full=tuple({**values, "batch_size": 2_000} for values in _GRAPH_GRID),
        quick=({"rate": 1e-2, "dimension": 16, "patience": _BRIEF},),
        paper=_GRAPH_PAPER,
        seconds=25,
    ),
    "mcl": Entry(
        "MCL",
        "Black-Box Profile",
        _mcl,
        full=tuple({**values, "batch_size": 500} for values in _GRAPH_GRID),
        quick=({"rate": 1e-2, "dimension": 16, "batch_size": 50, "patience": _BRIEF},),
        paper={**_GRAPH_PAPER, **_MCL_PAPER},
        seconds=60,
    ),
    "bert4rec": Entry(
        "BERT4Rec",
        "Black-Box Profile",
        _bert4rec,
        full=_BERT_GRID,
        quick=({"hidden": 16, "blocks": 1, "patience": _BRIEF},),
        paper=_BERT_PAPER,
        seconds=80,
    ),
    "llm2bert4rec": Entry(
        "LLM2BERT4Rec",
        "Black-Box Profile",
        _llm2bert4rec,
        full=_TEXT_GRID,
        quick=({"hidden": 16, "blocks": 1, "patience": _BRIEF},),
        paper=_BERT_PAPER,
        seconds=80,
        needs=_EMBEDDER,
    ),
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
