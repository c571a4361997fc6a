"""What items can be about, by phrase: what edits speak of, and what claims are checked against.

On the sample world these are its attribute words, which its texts were written from. On other data they are the categories that
at least MIN_ITEMS items have and at most half of them; a text mentions one that it contains, word for word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from langptune.data.dataset import Dataset
from langptune.domain import Item
from langptune.errors import FailedPrecondition
from samples.lexicon import ATTRIBUTES, plural
from samples.world import attributes_of

MIN_ITEMS = 5
MIN_BOTH = 3  # items that have both attributes of a compound
SAMPLE_GENERATOR = "samples.dataset"


@dataclass(frozen=True)
class Attributes:
    """Phrases, and which items have them."""

    phrases: tuple[str, ...]  # as an edit says them
    patterns: tuple[re.Pattern[str], ...]  # what finds a mention in a text
    has: NDArray[np.bool_]  # [items, phrases]

    @classmethod
    def of(cls, dataset: Dataset) -> Attributes:
        """Of a data set's items. Raises FailedPrecondition if there are fewer than four attributes."""
        items = list(dataset.items.values())
        found = _words(items) if dataset.info.get("generator") == SAMPLE_GENERATOR else _categories(items)
        if len(found.phrases) < 4:
            raise FailedPrecondition(
                f"{dataset.name} has {len(found.phrases)} categories of at least {MIN_ITEMS} items; steering needs 4",
                reason="FEW_ATTRIBUTES",
            )
        return found

    def mentioned(self, text: str) -> frozenset[int]:
        """The attributes that `text` mentions."""
        return frozenset(at for at, pattern in enumerate(self.patterns) if pattern.search(text))

    def common(self) -> list[int]:
        """The quarter that most items have."""
        return self._by_frequency()[-self._quarter :]

    def niche(self) -> list[int]:
        """The quarter that fewest items have."""
        return self._by_frequency()[: self._quarter]

    def compound(self) -> list[tuple[int, int]]:
        """Pairs of attributes that at least MIN_BOTH items have together."""
        counts = self.has.T.astype(np.int64) @ self.has.astype(np.int64)
        return [(a, b) for a, b in combinations(range(len(self.phrases)), 2) if counts[a, b] >= MIN_BOTH]

    @property
    def _quarter(self) -> int:
        return max(1, len(self.phrases) // 4)

    def _by_frequency(self) -> list[int]:
        return [int(at) for at in np.argsort(self.has.sum(axis=0), kind="stable")]


def _words(items: Sequence[Item]) -> Attributes:
    """The sample world's; one that no item has is left out."""
    own = [attributes_of(item) for item in items]
    words = [word for word in ATTRIBUTES if any(word in each for each in own)]
    has = np.array([[word in each for word in words] for each in own])
    return Attributes(tuple(map(plural, words)), _patterns(words), has)


def _categories(items: Sequence[Item]) -> Attributes:
    own = [{name.casefold() for name in item.categories} for item in items]
    counts = Counter(name for names in own for name in names)
    names = sorted(name for name, count in counts.items() if MIN_ITEMS <= count <= len(items) / 2)
    has = np.array([[name in each for name in names] for each in own], dtype=bool).reshape(len(items), len(names))
    return Attributes(tuple(names), _patterns(names), has)


def _patterns(words: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE) for word in words)
