"""Weights versions (immutable folders with a manifest) and releases (which pair of weights versions answers users)."""

from langptune.weights.evaluation import Evaluation, Measurement, Readability
from langptune.weights.golden import ANY_TEXT, Golden
from langptune.weights.releases import Move, Release, ReleaseRegistry, Why
from langptune.weights.store import KINDS, Kind, Manifest, WeightsStore

__all__ = [
    "ANY_TEXT",
    "KINDS",
    "Evaluation",
    "Golden",
    "Kind",
    "Manifest",
    "Measurement",
    "Move",
    "Readability",
    "Release",
    "ReleaseRegistry",
    "WeightsStore",
    "Why",
]
