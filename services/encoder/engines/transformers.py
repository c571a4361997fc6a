"""The engine that runs a Hugging Face causal language model in this process: the embedded default, on CPU or one GPU.

The event loop only waits: prompts are built on one thread, the model runs on another, versions load on further ones. Left out:
tokens as a stream, requests that join a running batch, versions as deltas or adapters.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from langptune.convert import without_controls
from langptune.errors import ResourceExhausted
from langptune.weights import WeightsStore
from services.encoder.engines.decoding import Sample, Task, score
from services.encoder.engines.loading import LoadedModel, ModelLoader
from services.encoder.engines.port import Rollout, RolloutGroup, Work, check_scored
from services.encoder.engines.residency import Residency
from services.encoder.engines.worker import LIVE, ROLLOUTS, Job, Outcome, Worker
from services.encoder.prompts import Prompt
from services.encoder.settings import EncoderSettings


class TransformersEngine:
    """Implements `services.encoder.engines.port.Engine`. Needs a running event loop from `load` or `generate` on."""

    def __init__(self, settings: EncoderSettings, store: WeightsStore) -> None:
        self._settings = settings
        loader = ModelLoader(settings.encoder_device, settings.encoder_dtype, settings.encoder_prompt_tokens)
        self._residency: Residency[LoadedModel] = Residency(
            locate=partial(store.local_path, "encoder"),
            load=lambda path: loader.load(path, self._residency.values()),
            limit=settings.encoder_resident_versions,
        )
        self._worker = Worker(
            max_rows=settings.encoder_batch_rows,
            max_positions=settings.encoder_batch_tokens,
            wait=settings.encoder_batch_wait,
            threads=settings.torch_threads,
        )
        self._prompt_thread = ThreadPoolExecutor(1, thread_name_prefix="encoder-prompts")
        self._pending = 0  # calls that run or wait

    async def generate(self, work: Work) -> RolloutGroup:
        """One profile of the one history of `work`, ahead of any waiting rollouts."""
        groups = [group async for group in self._write(work, LIVE, ["history"])]
        return groups[0]

    def sample_rollouts(self, work: Work) -> AsyncGenerator[RolloutGroup, None]:
        """The groups of all histories, in the order in which they finish. Closing the iterator calls the rest off."""
        return self._write(work, ROLLOUTS, [f"histories[{at}]" for at in range(len(work.histories))])

    async def score(self, version: str, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> list[float]:
        """ln pi of each token of the response. Raises InvalidArgument."""
        async with self._residency.use(version) as loaded:
            check_scored(prompt_ids, response_ids, loaded.context)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._prompt_thread, score, loaded.model, prompt_ids, response_ids)

    async def load(self, version: str) -> bool:
        """Make a version resident; whether it was before."""
        return await self._residency.load(version)

    async def unload(self, version: str) -> None:
        """Forget a version; work that uses it goes on with it."""
        await self._residency.unload(version)

    def versions(self) -> list[str]:
        """The resident versions, the least recently used first."""
        return self._residency.versions()

    async def close(self) -> None:
        """End all work."""
        await asyncio.to_thread(self._worker.close)
        await self._residency.close()
        self._prompt_thread.shutdown(cancel_futures=True)

    async def _write(self, work: Work, priority: int, fields: Sequence[str]) -> AsyncGenerator[RolloutGroup, None]:
        with self._place():
            async with self._residency.use(work.version) as loaded:
                loop = asyncio.get_running_loop()
                prompts = await loop.run_in_executor(self._prompt_thread, _prompts, loaded, work, fields)
                finished: asyncio.Queue[tuple[int, Outcome]] = asyncio.Queue()

                def tell(at: int, outcome: Outcome) -> None:  # on the worker's thread
                    loop.call_soon_threadsafe(finished.put_nowait, (at, outcome))

                jobs = [Job(loaded, _task(loaded, work, prompts, at), priority, partial(tell, at)) for at in range(len(prompts))]
                try:
                    self._worker.submit(sorted(jobs, key=lambda job: len(job.task.prompt_ids)))
                    for _ in jobs:
                        at, outcome = await finished.get()
                        if isinstance(outcome, BaseException):
                            raise outcome
                        yield RolloutGroup(
                            index=at,
                            prompt_token_ids=prompts[at].token_ids,
                            rollouts=[_rollout(loaded, sample) for sample in outcome],
                            coverage=prompts[at].coverage,
                        )
                finally:
                    for job in jobs:
                        job.cancelled = True

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of the places for calls. Raises ResourceExhausted when all are taken."""
        if self._pending >= self._settings.encoder_max_pending:
            message = f"all {self._settings.encoder_max_pending:,} places of the encoder are taken"
            raise ResourceExhausted(message, retry_after=self._settings.encoder_retry_after)
        self._pending += 1
        try:
            yield
        finally:
            self._pending -= 1


def _prompts(loaded: LoadedModel, work: Work, fields: Sequence[str]) -> list[Prompt]:
    pairs = zip(work.histories, fields, strict=True)
    return [loaded.prompts.build(history, work.domain, field) for history, field in pairs]


def _task(loaded: LoadedModel, work: Work, prompts: Sequence[Prompt], at: int) -> Task:
    prompt = prompts[at].token_ids
    return Task(
        prompt_ids=prompt,
        samples=work.samples,
        max_new_tokens=min(work.options.max_new_tokens, loaded.context - len(prompt)),
        temperature=work.options.temperature,
        seed=work.options.seed,
        stream=at,
    )


def _rollout(loaded: LoadedModel, sample: Sample) -> Rollout:
    text = loaded.tokenizer.decode(list(sample.token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Rollout(without_controls(str(text)).strip(), sample.token_ids, sample.log_probs, sample.finish_reason)
