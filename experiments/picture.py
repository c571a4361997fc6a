"""Pictures of results, drawn without a screen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


def draw_places(ranks: NDArray[np.int64], items: int, title: str, path: Path) -> None:
    """Share of users whose target is within the first k places, k on a logarithmic axis; dashed: a random order."""
    places = np.arange(1, items + 1)
    shares = np.searchsorted(np.sort(ranks, axis=None), places, side="right") / ranks.size
    figure = Figure(figsize=(6, 4))
    axis = figure.subplots()
    axis.plot(places, shares, label=title)
    axis.plot(places, places / items, linestyle="--", color="grey", label="random order")
    axis.set(xscale="log", xlabel="k", ylabel="share of users with the target in the first k", ylim=(0, 1))
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
