"""What an index must show before its version is used, or the load fails: that its graph finds what a full scan finds, while it is
built, and that the embedder which answers queries is the one that its vectors came from, whenever it is opened.

That it holds the whole catalogue is `ResidentVersion.refresh`'s to check. What a version in use holds is told by `verification`.
"""

from __future__ import annotations

import numpy as np
import structlog
from numpy.typing import NDArray

from langptune.errors import FailedPrecondition
from services.decoder.index import Collection, Search

log = structlog.get_logger(__name__)

LEAST_OVERLAP = 0.99  # of approximate and exact top 10, mean over the sample
_TOP = 10
_SAMPLE = 50  # queries

GOLDEN = 8  # items whose own text is searched for
LEAST_GOLDEN = 0.98  # similarity of an item's stored vector and its text embedded now; bfloat16 alone takes up to 0.01


async def sample(index: Collection, size: int) -> tuple[list[str], NDArray[np.float32]]:
    """Up to `size` items and their vectors: the first in the order of points, which are hashes, so a random choice."""
    async for item_ids, vectors in index.vectors():
        return item_ids[:size], vectors[:size]
    return [], np.zeros((0, 0), dtype=np.float32)


async def check_graph(index: Collection) -> float:
    """Mean overlap of the approximate and the exact top 10, over queries half-way between two random items: like a profile, they
    are near several items and equal to none. Raises FailedPrecondition when it is below LEAST_OVERLAP.
    """
    _, vectors = await sample(index, 2 * _SAMPLE)
    half = len(vectors) // 2
    shares: list[float] = []
    for query in vectors[:half] + vectors[half : 2 * half]:
        exact = {hit.item.item_id for hit in await index.search(Search(query, _TOP))}
        approximate = {hit.item.item_id for hit in await index.search(Search(query, _TOP, exact=False))}
        shares.append(len(exact & approximate) / max(1, len(exact)))
    overlap = float(np.mean(shares)) if shares else 1.0
    log.info("index compared with a full scan", overlap=round(overlap, 4), queries=len(shares))
    if overlap < LEAST_OVERLAP:
        message = f"the index's approximate top {_TOP} has {overlap:.1%} of the exact one; {LEAST_OVERLAP:.0%} are needed"
        raise FailedPrecondition(message, reason="INDEX_INEXACT")
    return overlap


def check_golden(item_ids: list[str], stored: NDArray[np.float32], fresh: NDArray[np.float32]) -> None:
    """Stored vectors [items, dimensions] and the same items' texts embedded now. Raises FailedPrecondition where they differ."""
    similarities = (stored * fresh).sum(axis=1)
    if len(item_ids) and similarities.min() < LEAST_GOLDEN:
        worst = item_ids[int(similarities.argmin())]
        message = f"the index does not fit its embedder: item {worst} has similarity {similarities.min():.3f} to its own text"
        raise FailedPrecondition(message, reason="INDEX_UNFIT")
