"""An embedder on a thread of its own, batch by batch, so that a short request waits for one batch of a long one at most.

Copies of it on further devices share the batches of a long request. Knows no items and keeps nothing; the cache of queries is in
`queries`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from langptune.domain import Interaction
from langptune.text import fitted_text, history_text
from services.decoder import metrics
from services.decoder.embedder import Embedder


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vector of one text."""

    vector: NDArray[np.float32]  # [dimensions], length 1
    coverage: float = 1.0  # share of the text's tokens that was read, above 0 to 1

    @property
    def truncated(self) -> bool:
        """Whether the text was over the embedder's limit."""
        return self.coverage < 1.0


@dataclass(frozen=True, slots=True)
class FittedText:
    """A history as the embedder can read it whole."""

    text: str
    coverage: float  # its tokens, as a share of those of the whole history


class EmbeddingWorker:
    """Embeds texts in the order in which batches are asked for. Close it when nothing uses it any more.

    `copies` are of the same model, on other devices or for other cores.
    """

    def __init__(self, embedder: Embedder, *copies: Embedder) -> None:
        self.dimensions = embedder.dimensions
        self.recipe = embedder.recipe
        self._embedder = embedder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embed")
        self._lanes = [(embedder, self._thread), *((copy, ThreadPoolExecutor(1, thread_name_prefix="embed")) for copy in copies)]

    async def embed(
        self, texts: Sequence[str], progress: Callable[[int], None] | None = None, *, queries: bool = False
    ) -> list[Embedded]:
        """One result per text, in order; `progress` is told after each batch how many texts it held.

        Equal texts are embedded once, so they have the same vector to the last bit. A copy that is free takes the next batch;
        batches are the same whoever embeds them.
        """
        loop = asyncio.get_running_loop()
        unique = list(dict.fromkeys(texts))
        done: dict[str, Embedded] = {}
        texts_of_batch = metrics.EMBED_QUERIES if queries else metrics.EMBED_ITEMS
        waiting = iter(await loop.run_in_executor(self._thread, partial(self._embedder.plan, unique, queries=queries)))

        async def lane(embedder: Embedder, thread: ThreadPoolExecutor) -> None:
            for batch in waiting:
                chosen = [unique[at] for at in batch.positions]
                vectors = await loop.run_in_executor(thread, partial(embedder.embed, chosen, queries=queries))
                texts_of_batch.observe(len(chosen))
                done.update(zip(chosen, map(Embedded, vectors, batch.coverage), strict=True))
                if progress:
                    progress(len(chosen))

        await asyncio.gather(*(lane(embedder, thread) for embedder, thread in self._lanes))
        return [done[text] for text in texts]

    async def fit(self, history: Sequence[Interaction]) -> FittedText:
        """The history written out so that its newest entries survive the embedder's limit (see `fit_history`)."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._fit, history)

    def close(self) -> None:
        """Let the threads end; a batch that one is at is finished first."""
        for _, thread in self._lanes:
            thread.shutdown(wait=False, cancel_futures=True)

    def _fit(self, history: Sequence[Interaction]) -> FittedText:
        def tokens(text: str) -> int:
            return self._embedder.count_tokens([text], queries=True)[0]

        limit = self._embedder.max_tokens
        kept = fitted_text(history, limit, tokens)
        return FittedText(kept, min(tokens(kept), limit) / tokens(history_text(history)))
