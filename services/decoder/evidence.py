"""What a profile rests on: how near each of its sentences is to each interaction of a history.

A plain cosine cannot be read: it has another scale under every embedder. So the similarity is told in standard deviations above
what the catalogue's items have with the same sentence. A dislike is put as a liking first: an embedder that has learnt polarity
keeps nothing else of "They dislike horror". From where on that is support is for the caller to say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from langptune.domain import Interaction
from langptune.text import affirmed
from services.decoder.matrix import Matrix
from services.decoder.queries import QueryEmbedder
from services.decoder.unwanted import spread

_LEAST = 1e-6  # deviation of a catalogue whose items are all alike


async def nearness(
    texts: Sequence[str], history: Sequence[Interaction], matrix: Matrix, queries: QueryEmbedder
) -> NDArray[np.float32]:
    """Standard scores [texts, interactions]; an interaction is what its item and its review say together, whatever is liked."""
    wanted = np.array([each.vector for each in await queries.many([affirmed(text) for text in texts])], dtype=np.float32)
    said = np.array([embedded.vector for embedded in await queries.interactions(history)], dtype=np.float32)
    mean, deviation = spread(matrix, wanted)
    scores = (wanted @ said.T - mean[:, None]) / np.maximum(deviation, np.float32(_LEAST))[:, None]
    return scores.astype(np.float32)
