"""A generated catalogue of any size for benchmarks/decoder.py, and an embedder that gives its items clustered vectors.

The embedder is an ordinary sentence-transformers folder: one static vector a word, averaged. A text names one cluster and some
of 5,000 other words, so a vector is its cluster's plus noise, and texts are embedded at the speed of a table look-up: what is
measured is the decoder, not a model. Vectors can be had without the model, too, for the comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from langptune.v1 import common_pb2

CLUSTERS = 200
WORDS = 5_000
WORDS_PER_ITEM = 8
WORDS_PER_QUERY = 4
CATEGORIES = 20
_BLOCK = 20_000  # rows of the generator's work


@dataclass(frozen=True)
class World:
    """A catalogue of `items` generated items with vectors of `dimensions`; a function of the seed."""

    items: int
    dimensions: int = 1_024
    seed: int = 0

    def tables(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The vectors of the clusters [CLUSTERS, dimensions] and of the words [WORDS, dimensions]."""
        rng = np.random.default_rng([self.seed, 1])
        scale = self.dimensions**-0.5
        clusters = 2.0 * scale * rng.standard_normal((CLUSTERS, self.dimensions))
        return clusters.astype(np.float32), (scale * rng.standard_normal((WORDS, self.dimensions))).astype(np.float32)

    def save_model(self, folder: Path) -> Path:
        """The embedder as a folder."""
        clusters, words = self.tables()
        names = ["[UNK]", *(f"c{at}" for at in range(CLUSTERS)), *(f"w{at}" for at in range(WORDS))]
        tokenizer = Tokenizer(WordLevel({name: at for at, name in enumerate(names)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        table = np.concatenate([np.zeros((1, self.dimensions), dtype=np.float32), clusters, words])
        SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=table)], device="cpu").save(str(folder))
        return folder

    def messages(self, size: int = 500) -> Iterator[list[common_pb2.Item]]:
        """All items, `size` at a time, about 300 bytes each."""
        clusters, words = self._contents(self.items, WORDS_PER_ITEM, 2)
        rng = np.random.default_rng([self.seed, 3])
        for start in range(0, self.items, size):
            yield [self._item(at, int(clusters[at]), words[at], rng) for at in range(start, min(start + size, self.items))]

    def vectors(self) -> NDArray[np.float32]:
        """What the embedder gives for the items: [items, dimensions], length 1."""
        return self._vectors(*self._contents(self.items, WORDS_PER_ITEM, 2))

    def queries(self, count: int) -> tuple[list[str], NDArray[np.float32]]:
        """Texts to rank by, and their vectors [count, dimensions]."""
        clusters, words = self._contents(count, WORDS_PER_QUERY, 4)
        texts = [f"c{cluster} {' '.join(f'w{word}' for word in row)}" for cluster, row in zip(clusters, words, strict=True)]
        return texts, self._vectors(clusters, words)

    def _contents(self, count: int, words: int, stream: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rng = np.random.default_rng([self.seed, stream])
        return rng.integers(0, CLUSTERS, count), rng.integers(0, WORDS, (count, words))

    def _vectors(self, chosen: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float32]:
        clusters, words = self.tables()
        found: NDArray[np.float32] = np.empty((len(chosen), self.dimensions), dtype=np.float32)
        for start in range(0, len(chosen), _BLOCK):
            part = slice(start, start + _BLOCK)
            found[part] = clusters[chosen[part]]
            for column in others[part].T:
                found[part] += words[column]
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        return found

    def _item(self, at: int, cluster: int, words: NDArray[np.int64], rng: np.random.Generator) -> common_pb2.Item:
        said = [f"w{word}" for word in words]
        return common_pb2.Item(
            item_id=item_id(at),
            title=f"c{cluster} {' '.join(said[:3])}",
            description=f"{' '.join(said[3:])} {'and so it goes on for a while ' * 6}",
            categories=[f"category {cluster % CATEGORIES}"],
            average_rating=round(float(rng.uniform(1, 5)), 1),
            price=round(float(rng.uniform(1, 50)), 2),
        )


def item_id(at: int) -> str:
    """The id of the item at a position; ids sort as positions do."""
    return f"i{at:08d}"
