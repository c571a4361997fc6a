"""Why an item stands where it does: what each sentence of the profile adds to the similarity.

Leave-one-sentence-out: the profile is embedded again without each of its sentences; so it works with any pooling. On the sample
world this names, in over nine of ten profiles, the very sentence whose removal costs the item most places; the sentence taken
by itself, or similarities centred by the catalogue, did no better (tests/integration/decoder/test_sample_world.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from langptune.errors import NotFound
from langptune.text import sentences
from services.decoder.matrix import Matrix
from services.decoder.queries import QueryEmbedder


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one item."""

    item_id: str
    score: float  # similarity of the whole text
    contributions: list[float]  # per sentence, what the similarity loses without it


@dataclass(frozen=True, slots=True)
class Explanations:
    """The sentences of a text and what they do for each item."""

    sentences: list[str]
    explanations: list[Explanation]
    truncated: bool


async def explain(text: str, item_ids: Sequence[str], matrix: Matrix, queries: QueryEmbedder) -> Explanations:
    """All items share the embeddings: one of the text, one per sentence. Raises NotFound for an unknown item."""
    positions = [_position(matrix, item_id) for item_id in item_ids]
    parts = sentences(text)
    rest = [" ".join(parts[:at] + parts[at + 1 :]) for at in range(len(parts))] if len(parts) > 1 else []
    whole, *without = await queries.many([text, *rest])
    items = matrix.rows(positions)  # [items, dimensions]
    scores = items @ whole.vector
    lost = np.zeros((len(items), 1), dtype=np.float32)  # similarity to nothing, which is what one sentence leaves
    if without:
        lost = items @ np.array([embedded.vector for embedded in without]).T
    contributions = scores[:, None] - lost  # [items, sentences]
    explanations = [
        Explanation(item_id, float(score), row.tolist())
        for item_id, score, row in zip(item_ids, scores, contributions, strict=True)
    ]
    return Explanations(parts, explanations, whole.truncated)


def _position(matrix: Matrix, item_id: str) -> int:
    position = matrix.position(item_id)
    if position is None:
        raise NotFound("item", item_id)
    return position
