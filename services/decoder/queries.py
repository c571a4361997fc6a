"""Vectors of query texts: from a bounded cache, else embedded together with whatever else waits.

One per version, so the cache is keyed by (version, text hash). Nothing waits on a timer: while one batch is embedded the next
gathers, so a lone query starts at once and a crowd shares batches.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from langptune.domain import Interaction
from langptune.text import history_text
from services.decoder.worker import Embedded, EmbeddingWorker

_SHARED = 64  # missing texts of one call that still join the shared rounds


@dataclass(slots=True)
class QueryCounts:
    """What became of the queries of a version since it was loaded."""

    hits: int = 0  # texts found in the cache
    misses: int = 0  # texts that were not, whether or not somebody waited for them already
    embedded: int = 0  # texts embedded
    batches: int = 0  # rounds that they were embedded in


class QueryEmbedder:
    """The vectors of queries."""

    def __init__(self, worker: EmbeddingWorker, cache_size: int) -> None:
        self.counts = QueryCounts()
        self._worker = worker
        self._cache_size = cache_size
        self._cache: OrderedDict[bytes, Embedded] = OrderedDict()  # by text hash; the one used longest ago first
        self._waiting: dict[str, asyncio.Future[Embedded]] = {}
        self._draining: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Vectors in the cache."""
        return len(self._cache)

    async def one(self, text: str) -> Embedded:
        """The vector of one text. Concurrent calls share batches."""
        known = self._lookup(_key(text))
        return known if known is not None else await asyncio.shield(self._wait_for(text))

    async def many(self, texts: Sequence[str]) -> list[Embedded]:
        """The vectors of several texts, in order; each distinct text is embedded once.

        Many at once (training) neither hold up the shared rounds nor push out of the cache what people wait for.
        """
        found = {text: self._lookup(_key(text)) for text in dict.fromkeys(texts)}
        missing = [text for text, known in found.items() if known is None]
        if len(missing) > _SHARED:
            self._count(missing)
            fresh = await self._worker.embed(missing, queries=True)
        else:
            futures = [self._wait_for(text) for text in missing]
            fresh = await asyncio.gather(*map(asyncio.shield, futures))
        embedded = dict(zip(missing, fresh, strict=True))
        return [found[text] or embedded[text] for text in texts]

    async def history(self, history: Sequence[Interaction]) -> Embedded:
        """The vector of a history written out, its newest entries if it is over the limit."""
        key = _key(history_text(history), b"history")
        known = self._lookup(key)
        if known is not None:
            return known
        fitted = await self._worker.fit(history)
        embedded = Embedded((await self.one(fitted.text)).vector, fitted.coverage)
        self._remember(key, embedded)
        return embedded

    async def interactions(self, history: Sequence[Interaction]) -> list[Embedded]:
        """The vectors of single interactions, each written out by itself as items are; none is kept."""
        fitted = await asyncio.gather(*(self._worker.fit([entry]) for entry in history))
        return await self._worker.embed([each.text for each in fitted])

    def _wait_for(self, text: str) -> asyncio.Future[Embedded]:
        future = self._waiting.setdefault(text, asyncio.get_running_loop().create_future())
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        return future

    async def _drain(self) -> None:
        """Embed what waits, and what has come meanwhile, until nothing does."""
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            self._count(waiting)
            results = await asyncio.gather(self._worker.embed(list(waiting), queries=True), return_exceptions=True)
            self._answer(waiting, results[0])
        self._draining = None

    def _count(self, texts: Collection[str]) -> None:
        self.counts.batches += 1
        self.counts.embedded += len(texts)

    def _answer(self, waiting: dict[str, asyncio.Future[Embedded]], result: list[Embedded] | BaseException) -> None:
        if isinstance(result, BaseException):
            for future in waiting.values():
                future.set_exception(result)
                future.exception()  # seen, even if the caller has gone
            return
        for (text, future), embedded in zip(waiting.items(), result, strict=True):
            self._remember(_key(text), embedded)
            future.set_result(embedded)

    def _lookup(self, key: bytes) -> Embedded | None:
        known = self._cache.get(key)
        if known is None:
            self.counts.misses += 1
            return None
        self.counts.hits += 1
        self._cache.move_to_end(key)
        return known

    def _remember(self, key: bytes, embedded: Embedded) -> None:
        self._cache[key] = embedded
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)


def _key(text: str, kind: bytes = b"text") -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16, person=kind).digest()
