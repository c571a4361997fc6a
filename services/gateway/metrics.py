"""The gateway's metrics, each defined in docs/operations.md."""

from __future__ import annotations

from prometheus_client import Counter

_RECOMMENDATIONS = Counter(
    "langptune_gateway_recommendations", "Rankings by what they were made from: profile, history, popularity.", ["basis"]
)
RECOMMENDATIONS = {basis: _RECOMMENDATIONS.labels(basis) for basis in ("profile", "history", "popularity")}
