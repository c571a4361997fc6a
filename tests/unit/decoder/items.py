"""Items for the decoder's tests."""

from __future__ import annotations

import random

from langptune.domain import Item
from tests.support.micro_embedder import WORDS


def random_items(count: int, seed: int = 0) -> list[Item]:
    """Items i0000, i0001, ... out of the micro embedder's words."""
    rng = random.Random(seed)
    return [
        Item(
            item_id=f"i{at:04d}",
            title=" ".join(rng.choices(WORDS, k=3)),
            description=" ".join(rng.choices(WORDS, k=rng.randint(0, 15))),
            categories=tuple(rng.sample(WORDS, 2)),
            average_rating=None if at % 5 == 0 else round(rng.uniform(1, 5), 1),
            price=None if at % 3 == 0 else round(rng.uniform(1, 30), 2),
        )
        for at in range(count)
    ]


def random_text(seed: int) -> str:
    """A profile-like text."""
    return " ".join(random.Random(seed).choices(WORDS, k=20))
