"""Several texts about one user as one profile: their sentences, those of the newest text first, each once, up to a limit.

No language model is asked, so nothing is said that was not written; what is true in parts stays true. Two wordings of the same
claim are two sentences.
"""

from __future__ import annotations

from collections.abc import Iterable

from langptune.text import sentences
from services.gateway.profiles.marks import same


def merged(texts: Iterable[str], most: int) -> str:
    """`texts` from the newest to the oldest; `most` sentences stay, so what was said longest ago goes first."""
    kept: dict[str, str] = {}
    for text in texts:
        for sentence in sentences(text):
            kept.setdefault(same(sentence), sentence)
    return " ".join(list(kept.values())[:most])
