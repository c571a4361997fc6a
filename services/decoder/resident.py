"""A decoder version in memory: embedder, index, and the matrix of the same vectors; and how it is brought up to the catalogue.

Bringing up to date is the one way in which an index comes to be: built from nothing, continued after a crash, or caught up after
a time on disk, it embeds what the catalogue has and the index lacks. So an interrupted build leaves nothing half usable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import structlog

from langptune.errors import Unavailable
from langptune.text import item_text
from services.decoder.catalogue import Catalogue, catalogue_entry
from services.decoder.documents import indexed_revision
from services.decoder.index import Collection, Entry
from services.decoder.index.layout import LAYOUTS, Layout
from services.decoder.matrix import Matrix, Vectors, joined
from services.decoder.queries import QueryEmbedder
from services.decoder.soundness import GOLDEN, check_golden, sample
from services.decoder.worker import EmbeddingWorker

log = structlog.get_logger(__name__)

_BUILD_BATCH = 512  # items between two writes of a build

EmbedProgress = Callable[[int], None]  # told how many items were embedded since it was last told


class ResidentVersion:
    """One version, usable once `refresh` has returned."""

    def __init__(
        self, version: str, worker: EmbeddingWorker, index: Collection, cache_size: int, layout: Layout = LAYOUTS["10k"]
    ) -> None:
        self.version = version
        self.queries = QueryEmbedder(worker, cache_size)
        self.index = index
        self.matrix = Matrix([])
        self.dimensions = worker.dimensions
        self._worker = worker
        self._layout = layout
        self._recipe = f"{worker.recipe}-{layout.vectors}"
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_use(self) -> bool:
        """Whether a call works with it."""
        return not self._idle.is_set()

    def acquire(self) -> None:
        """Keep it from being closed until `release`."""
        self._users += 1
        self._idle.clear()

    def release(self) -> None:
        """The end of `acquire`."""
        self._users -= 1
        if not self._users:
            self._idle.set()

    async def stale(self, catalogue: Catalogue) -> tuple[list[str], list[str]]:
        """Ids of the items that must be embedded, and of those in the index that the catalogue no longer has."""
        indexed = await self.index.revisions()
        return catalogue.stale(indexed, self._recipe), [item_id for item_id in indexed if item_id not in catalogue]

    async def build(self, catalogue: Catalogue, item_ids: Sequence[str], progress: EmbedProgress) -> None:
        """Embed these items and write them to the index; the matrix is left to `refresh`."""
        for start in range(0, len(item_ids), _BUILD_BATCH):
            items = await catalogue.get(item_ids[start : start + _BUILD_BATCH])
            await self.index.put(await self.embed(list(map(catalogue_entry, items)), progress))
        if item_ids:
            await self.index.flush()

    async def refresh(self, catalogue: Catalogue) -> None:
        """Read the matrix from the index. Raises Unavailable when it does not hold the whole catalogue, item by item."""
        item_ids: list[str] = []
        blocks: list[Vectors] = []
        async for names, vectors in self.index.vectors():
            item_ids += names
            blocks.append(vectors.astype(self._layout.vectors))
            blocks = joined(blocks)
        if len(item_ids) != len(catalogue) or not all(item_id in catalogue for item_id in item_ids):
            log.error("index and catalogue differ", version=self.version, indexed=len(item_ids), catalogue=len(catalogue))
            raise Unavailable(f"the index of decoder version {self.version} is not complete", reason="INDEX_FAILED")
        self.matrix = Matrix(item_ids, *blocks)

    async def check_embedder(self) -> None:
        """Raises FailedPrecondition when the stored vectors are not this embedder's."""
        item_ids, stored = await sample(self.index, GOLDEN)
        entries = await self.embed(list(map(catalogue_entry, await self.index.get(item_ids))))
        check_golden(item_ids, stored, np.array([entry.vector for entry in entries], dtype=np.float32).reshape(stored.shape))

    async def embed(self, entries: Sequence[Entry], progress: EmbedProgress | None = None) -> list[Entry]:
        """Entries of the catalogue as entries of this version's index."""
        embedded = await self._worker.embed([item_text(entry.item) for entry in entries], progress)
        return [
            Entry(entry.item, indexed_revision(entry.revision, self._recipe), self._layout.rounded(result.vector))
            for entry, result in zip(entries, embedded, strict=True)
        ]

    async def apply(self, entries: Sequence[Entry]) -> None:
        """Write changed items to index and matrix."""
        await self.index.put(entries)
        vectors = np.array([entry.vector for entry in entries], dtype=self._layout.vectors)
        self.matrix = self.matrix.with_rows([entry.item.item_id for entry in entries], vectors)

    async def remove(self, item_ids: Sequence[str]) -> None:
        """Take items out of index and matrix."""
        await self.index.delete(item_ids)
        self.matrix = self.matrix.without(frozenset(item_ids))

    async def close(self) -> None:
        """Wait for the last user, then release everything."""
        await self._idle.wait()
        self._worker.close()
        await self.index.close()
