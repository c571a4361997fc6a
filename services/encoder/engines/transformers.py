"""The engine that runs a Hugging Face causal language model in this process: the embedded default, on CPU or one GPU.

The event loop only waits: prompts are built on one thread, the models run on another, versions load on further ones. Left out:
more than one GPU, and models too large for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from langptune.weights import WeightsStore
from services.encoder.engines.admission import Admission
from services.encoder.engines.decoding import Sample, Task, score
from services.encoder.engines.loading import LoadedModel, ModelLoader, is_difference
from services.encoder.engines.port import Occupancy, Rollout, RolloutGroup, Work, check_scored
from services.encoder.engines.residency import Residency
from services.encoder.engines.text import TextPieces, profile_text
from services.encoder.engines.worker import LIVE, ROLLOUTS, Job, Outcome, Worker
from services.encoder.prompts import Prompt
from services.encoder.settings import EncoderSettings

_HISTORY = ("history",)  # the field that a live request's history stands in


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a version's files are; `parent` is what they are a difference to."""

    version: str
    path: str
    parent: _Place | None


class TransformersEngine:
    """Implements `services.encoder.engines.port.Engine`. Needs a running event loop from `load` or `generate` on."""

    def __init__(self, settings: EncoderSettings, store: WeightsStore) -> None:
        self._store = store
        self._loader = ModelLoader(settings.encoder_device, settings.encoder_dtype, settings.encoder_prompt_tokens)
        self._residency: Residency[_Place, LoadedModel] = Residency(
            self._locate, self._load, limit=settings.encoder_resident_versions
        )
        self._worker = Worker(
            max_rows=settings.encoder_batch_rows,
            max_positions=settings.encoder_batch_tokens,
            threads=settings.torch_threads,
        )
        self._prompt_thread = ThreadPoolExecutor(1, thread_name_prefix="encoder-prompts")
        self._admission = Admission(settings.encoder_max_pending, settings.encoder_retry_after)

    async def start(self, base_version: str) -> None:
        """Bring the base version into memory."""
        await self.load(base_version)

    async def generate(self, work: Work) -> RolloutGroup:
        """One profile of the one history of `work`, ahead of any waiting rollouts."""
        groups = [group async for group in self._write(work, LIVE, _HISTORY)]
        return groups[0]

    async def stream(self, work: Work) -> AsyncGenerator[str | RolloutGroup, None]:
        """The profile piece by piece, at last the whole. Closing the iterator calls the rest off."""
        with self._admission.place():
            async with self._residency.use(work.version) as loaded:
                (prompt,) = await self._prompts(loaded, work, _HISTORY)
                pieces = TextPieces(loaded.tokenizer)
                async with aclosing(self._run(loaded, work, [prompt], LIVE, with_tokens=True)) as events:
                    async for _, event in events:
                        if piece := pieces.add(event) if isinstance(event, int) else pieces.rest():
                            yield piece
                        if not isinstance(event, int):
                            yield _group(loaded, 0, prompt, event)

    def sample_rollouts(self, work: Work) -> AsyncGenerator[RolloutGroup, None]:
        """The groups of all histories, in the order in which they finish. Closing the iterator calls the rest off."""
        return self._write(work, ROLLOUTS, [f"histories[{at}]" for at in range(len(work.histories))])

    async def score(self, version: str, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> list[float]:
        """ln pi of each token of the response. Raises InvalidArgument."""
        async with self._residency.use(version) as loaded:
            check_scored(prompt_ids, response_ids, loaded.context)
            scored = self._worker.call(partial(score, loaded.model, prompt_ids, response_ids))
            return await asyncio.wrap_future(scored)

    async def load(self, version: str) -> bool:
        """Make a version resident; whether it was before."""
        return await self._residency.load(version)

    async def unload(self, version: str) -> None:
        """Forget a version; work that uses it goes on with it."""
        await self._residency.unload(version)

    def versions(self) -> list[str]:
        """The resident versions, the least recently used first."""
        return self._residency.versions()

    def occupancy(self) -> Occupancy:
        """How busy it is now."""
        queued = (self._worker.queued(LIVE), self._worker.queued(ROLLOUTS))
        return Occupancy(self._admission.taken, self._worker.rows, queued)

    async def close(self) -> None:
        """End all work."""
        await asyncio.to_thread(self._worker.close)
        await self._residency.close()
        self._prompt_thread.shutdown(cancel_futures=True)

    def _locate(self, version: str) -> _Place:
        """Verified files. Raises NotFound, FailedPrecondition."""
        path = self._store.local_path("encoder", version)
        if not is_difference(path):
            return _Place(version, path, None)
        return _Place(version, path, self._locate(self._store.manifest("encoder", version).parent))

    def _load(self, place: _Place) -> LoadedModel:
        """The model; the parent of a difference is taken from those in memory, or loaded for it."""
        if place.parent is None:
            return self._loader.load(place.path, self._residency.values())
        parent = self._residency.get(place.parent.version) or self._load(place.parent)
        return self._loader.load_difference(place.path, parent)

    async def _write(self, work: Work, priority: int, fields: Sequence[str]) -> AsyncGenerator[RolloutGroup, None]:
        with self._admission.place():
            async with self._residency.use(work.version) as loaded:
                prompts = await self._prompts(loaded, work, fields)
                async with aclosing(self._run(loaded, work, prompts, priority)) as events:
                    async for at, samples in events:
                        if not isinstance(samples, int):
                            yield _group(loaded, at, prompts[at], samples)

    async def _prompts(self, loaded: LoadedModel, work: Work, fields: Sequence[str]) -> list[Prompt]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._prompt_thread, _build_prompts, loaded, work, fields)

    async def _run(
        self, loaded: LoadedModel, work: Work, prompts: Sequence[Prompt], priority: int, *, with_tokens: bool = False
    ) -> AsyncGenerator[tuple[int, int | Sequence[Sample]], None]:
        """(place of the prompt, a token or its samples) as they come; left early, it calls the rest off."""
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[tuple[int, int | Outcome]] = asyncio.Queue()

        def tell(at: int, event: int | Outcome) -> None:  # on the worker's thread
            loop.call_soon_threadsafe(told.put_nowait, (at, event))

        jobs = [
            Job(loaded, _task(loaded, work, prompt, at), priority, partial(tell, at), partial(tell, at) if with_tokens else None)
            for at, prompt in enumerate(prompts)
        ]
        try:
            self._worker.submit(jobs)
            waiting = len(jobs)
            while waiting:
                at, event = await told.get()
                if isinstance(event, BaseException):
                    raise event
                waiting -= not isinstance(event, int)
                yield at, event
        finally:
            for job in jobs:
                job.cancelled = True


def _build_prompts(loaded: LoadedModel, work: Work, fields: Sequence[str]) -> list[Prompt]:
    pairs = zip(work.histories, fields, strict=True)
    return [loaded.prompts.build(history, work.domain, field) for history, field in pairs]


def _task(loaded: LoadedModel, work: Work, prompt: Prompt, at: int) -> Task:
    return Task(
        prompt_ids=prompt.token_ids,
        samples=work.samples,
        max_new_tokens=min(work.options.max_new_tokens, loaded.context - len(prompt.token_ids)),
        temperature=work.options.temperature,
        seed=work.options.seed,
        stream=at,
    )


def _group(loaded: LoadedModel, at: int, prompt: Prompt, samples: Sequence[Sample]) -> RolloutGroup:
    return RolloutGroup(at, prompt.token_ids, [_rollout(loaded, sample) for sample in samples], prompt.coverage)


def _rollout(loaded: LoadedModel, sample: Sample) -> Rollout:
    text = profile_text(loaded.tokenizer, sample.token_ids)
    return Rollout(text, tuple(sample.token_ids), tuple(sample.log_probs), sample.finish_reason or "length")
