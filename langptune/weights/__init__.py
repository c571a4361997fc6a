"""Weights versions (immutable folders with a manifest) and releases (which pair of versions answers users)."""

from langptune.weights.releases import Release, ReleaseRegistry
from langptune.weights.store import Manifest, WeightsStore

__all__ = ["Manifest", "Release", "ReleaseRegistry", "WeightsStore"]
