"""An embedder on a thread of its own, batch by batch, so that a short request waits for one batch of a long one at most.

Also the cache of query vectors, and the joining of queries that come at the same time into one batch. Knows no items.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.decoder.embedder import Embedder


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vector of one text."""

    vector: NDArray[np.float32]  # [dimensions], length 1
    truncated: bool  # the text was over the embedder's limit


class EmbeddingWorker:
    """Embeds texts in the order in which batches are asked for. Close it when nothing uses it any more."""

    def __init__(self, embedder: Embedder) -> None:
        self.dimensions = embedder.dimensions
        self.recipe = embedder.recipe
        self._embedder = embedder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")

    async def embed(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> list[Embedded]:
        """One result per text, in order; `progress` is told after each batch how many texts it held.

        Equal texts are embedded once, so they have the same vector to the last bit.
        """
        loop = asyncio.get_running_loop()
        unique = list(dict.fromkeys(texts))
        done: dict[str, Embedded] = {}
        for batch in await loop.run_in_executor(self._thread, self._embedder.plan, unique):
            chosen = [unique[at] for at in batch.positions]
            vectors = await loop.run_in_executor(self._thread, self._embedder.embed, chosen)
            done.update(zip(chosen, map(Embedded, vectors, batch.truncated), strict=True))
            if progress:
                progress(len(chosen))
        return [done[text] for text in texts]

    def close(self) -> None:
        """Let the thread end; a batch that it is at is finished first."""
        self._thread.shutdown(wait=False, cancel_futures=True)


class QueryEmbedder:
    """Vectors of query texts: from the cache, else embedded together with whatever else waits."""

    def __init__(self, worker: EmbeddingWorker, cache_size: int) -> None:
        self._worker = worker
        self._cache_size = cache_size
        self._cache: OrderedDict[str, Embedded] = OrderedDict()  # the text used longest ago first
        self._waiting: dict[str, asyncio.Future[Embedded]] = {}
        self._draining: asyncio.Task[None] | None = None

    async def one(self, text: str) -> Embedded:
        """The vector of one text. Concurrent calls share batches."""
        known = self._lookup(text)
        if known is not None:
            return known
        future = self._waiting.setdefault(text, asyncio.get_running_loop().create_future())
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return await asyncio.shield(future)

    async def many(self, texts: Sequence[str]) -> list[Embedded]:
        """The vectors of several texts, in order; each distinct text is embedded once."""
        found = {text: known for text in dict.fromkeys(texts) if (known := self._lookup(text)) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        fresh = dict(zip(missing, await self._worker.embed(missing), strict=True))
        self._remember(fresh)
        found.update(fresh)
        return [found[text] for text in texts]

    async def _drain(self) -> None:
        """Embed what waits, and what has come meanwhile, until nothing does."""
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            results = await asyncio.gather(self._worker.embed(list(waiting)), return_exceptions=True)
            self._answer(waiting, results[0])
        self._draining = None

    def _answer(self, waiting: dict[str, asyncio.Future[Embedded]], result: list[Embedded] | BaseException) -> None:
        if isinstance(result, BaseException):
            for future in waiting.values():
                future.set_exception(result)
                future.exception()  # seen, even if the caller has gone
            return
        self._remember(dict(zip(waiting, result, strict=True)))
        for future, embedded in zip(waiting.values(), result, strict=True):
            future.set_result(embedded)

    def _lookup(self, text: str) -> Embedded | None:
        known = self._cache.get(text)
        if known is not None:
            self._cache.move_to_end(text)
        return known

    def _remember(self, fresh: dict[str, Embedded]) -> None:
        self._cache.update(fresh)
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
