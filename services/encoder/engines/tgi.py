"""The engine that asks text-generation-inference servers: the production default on GPUs.

TGI takes text and loads its weights only when it starts, so a version is served by whichever of the configured servers was
started with it (`--model-id .../encoder/<version>`); `load` finds that server and proves that both sides see the same tokens. How
servers are started and stopped is not here, and nothing else knows TGI: that is `tgi_server`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from huggingface_hub import constants
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from langptune.domain import Interaction, Item
from langptune.errors import FailedPrecondition, InvalidArgument, Unavailable
from langptune.text import DEFAULT_DOMAIN
from langptune.weights import WeightsStore
from services.encoder.engines.admission import Admission
from services.encoder.engines.noise import row_keys
from services.encoder.engines.port import Occupancy, Rollout, RolloutGroup, Work, check_scored
from services.encoder.engines.text import TextPieces, profile_text
from services.encoder.engines.tgi_server import WHOLE_TOKENS, Ask, Info, TgiServer, Written
from services.encoder.prompts import Prompt, PromptBuilder
from services.encoder.settings import EncoderSettings

_TRUST = 5.0  # seconds that a server is taken to serve what it did: it needs longer to come up with another model
_ROLLOUT_SHARE = 0.75  # of a server's places; the rest is for live requests
_PROBE = [Interaction(item=Item(item_id="probe", title="Probe"), rating=4.0, review="Good.", time_ms=1)]


@dataclass(slots=True)
class _Served:
    """A version, the server that has it, and what its prompts need."""

    server: TgiServer
    info: Info
    tokenizer: PreTrainedTokenizerBase
    prompts: PromptBuilder
    bos: str  # what is taken off a prompt's text, because TGI puts it there
    rollouts: asyncio.Semaphore
    seen: float  # when the server last said that it serves the version, time.monotonic()


class TgiEngine:
    """Implements `services.encoder.engines.port.Engine`."""

    def __init__(self, settings: EncoderSettings, store: WeightsStore) -> None:
        if constants.HF_HUB_OFFLINE:
            raise FailedPrecondition("HF_HUB_OFFLINE is set: it keeps the client of TGI from any address; unset it")
        self._settings = settings
        self._store = store
        self._admission = Admission(settings.encoder_max_pending, settings.encoder_retry_after)
        urls = [url.strip().rstrip("/") for url in settings.encoder_tgi_urls.split(",") if url.strip()]
        self._servers = [TgiServer(url, settings.encoder_tgi_timeout, self._admission) for url in urls]
        self._served: dict[str, _Served] = {}
        self._prompting = asyncio.Lock()  # a prompt builder is for one thread at a time

    async def start(self, base_version: str) -> None:
        """Find out what is served. Raises FailedPrecondition when no server serves a version of the store."""
        stored = {base_version, *await asyncio.to_thread(self._store.versions, "encoder")}
        for version in stored & {base_version, *await self._model_names()}:
            server, info = await self._find(version)
            if server and info:
                await self._adopt(version, server, info)
        if not self._served:
            urls = ", ".join(server.url for server in self._servers)
            raise FailedPrecondition(f"no TGI server at {urls} answers with a version of the weights store", reason="NO_TGI")

    async def generate(self, work: Work) -> RolloutGroup:
        """One profile of the one history of `work`."""
        with self._admission.place():
            served = await self._use(work.version)
            prompt = await self._prompt(served, work, 0, "history")
            return await self._group(served, work, 0, prompt)

    async def stream(self, work: Work) -> AsyncGenerator[str | RolloutGroup, None]:
        """The profile piece by piece, at last the whole. Closing the iterator calls the rest off."""
        with self._admission.place():
            served = await self._use(work.version)
            prompt = await self._prompt(served, work, 0, "history")
            pieces = TextPieces(served.tokenizer)
            async with aclosing(served.server.stream(_asks(served, work, 0, prompt)[0])) as events:
                async for event in events:
                    if piece := pieces.add(event) if isinstance(event, int) else pieces.rest():
                        yield piece
                    if isinstance(event, Written):
                        yield RolloutGroup(0, prompt.token_ids, [_rollout(served, event)], prompt.coverage)

    async def sample_rollouts(self, work: Work) -> AsyncGenerator[RolloutGroup, None]:
        """The groups of all histories, in the order in which they finish. Closing the iterator calls the rest off."""
        with self._admission.place():
            served = await self._use(work.version)
            prompts = [await self._prompt(served, work, at, f"histories[{at}]") for at in range(len(work.histories))]
            tasks = [
                asyncio.create_task(self._group(served, work, at, prompt, served.rollouts)) for at, prompt in enumerate(prompts)
            ]
            try:
                for finished in asyncio.as_completed(tasks):
                    yield await finished
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def score(self, version: str, prompt_ids: Sequence[int], response_ids: Sequence[int]) -> list[float]:
        """ln pi of each token of the response. TGI takes text, so the ids must be those of their own text.

        Raises InvalidArgument, and FailedPrecondition `TEXT_ROUND_TRIP` when the text has other tokens.
        """
        served = await self._use(version)
        check_scored(prompt_ids, response_ids, min(served.info.max_input_tokens, served.info.max_total_tokens - 1))
        ids = [*prompt_ids, *response_ids]
        text = str(served.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
        scored = await served.server.score(text.removeprefix(served.bos))
        if [token for token, _ in scored] != ids:
            raise FailedPrecondition("the text of prompt and response has other tokens than they have", reason="TEXT_ROUND_TRIP")
        return [log_prob for _, log_prob in scored[len(prompt_ids) :]]

    async def load(self, version: str) -> bool:
        """Find the server that serves `version`; whether it was known. Raises NotFound, FailedPrecondition (none serves it)."""
        known = version in self._served
        await self._use(version)
        return known and version in self._served

    async def unload(self, version: str) -> None:
        """Forget which server has a version; what it is writing goes on."""
        self._served.pop(version, None)

    def versions(self) -> list[str]:
        """The versions that a server is known for."""
        return list(self._served)

    def occupancy(self) -> Occupancy:
        """The calls; what waits in a server, and its batch, are in the server's own metrics."""
        return Occupancy(self._admission.taken, 0, (0, 0))

    async def close(self) -> None:
        """Close all connections."""
        for server in self._servers:
            await server.close()

    async def _model_names(self) -> list[str]:
        """What the servers that can be reached were started with."""
        infos = await asyncio.gather(*(server.info() for server in self._servers), return_exceptions=True)
        return [_name(info) for info in infos if isinstance(info, Info)]

    async def _use(self, version: str) -> _Served:
        """The server of `version`, which has said so a short while ago."""
        served = self._served.get(version)
        if served and time.monotonic() - served.seen < _TRUST:
            return served
        if not served:
            await asyncio.to_thread(self._store.manifest, "encoder", version)
        server, info = await self._find(version)
        if not server or not info:
            self._served.pop(version, None)
            raise FailedPrecondition(f"no TGI server serves encoder version {version}", reason="VERSION_NOT_SERVED")
        if served and served.server is server:
            served.seen = time.monotonic()
            return served
        return await self._adopt(version, server, info)

    async def _find(self, version: str) -> tuple[TgiServer | None, Info | None]:
        """The server that was started with `version`, by the last part of its model id, or with a base version's model."""
        manifest = await asyncio.to_thread(self._store.manifest, "encoder", version)
        names = {version} if manifest.files else {version, manifest.base_model}
        unreachable: Unavailable | None = None
        for server in self._nearest(version):
            try:
                info = await server.info()
            except Unavailable as error:
                unreachable = error
                continue
            if names & {info.model_id, _name(info)}:
                return server, info
        if unreachable and version in self._served:
            raise unreachable  # it served the version, and may again
        return None, None

    def _nearest(self, version: str) -> list[TgiServer]:
        """All servers, the one that served `version` first: a slot that is away must not keep its calls waiting."""
        served = self._served.get(version)
        return sorted(self._servers, key=lambda server: served is None or server is not served.server)

    async def _adopt(self, version: str, server: TgiServer, info: Info) -> _Served:
        path = await asyncio.to_thread(self._store.local_path, "encoder", version)
        tokenizer = await asyncio.to_thread(AutoTokenizer.from_pretrained, path)
        limit = min(self._settings.encoder_prompt_tokens, info.max_input_tokens, info.max_total_tokens * 3 // 4)
        prompts = PromptBuilder(tokenizer, limit)
        bos = await _agree(server, tokenizer, prompts.build(_PROBE, DEFAULT_DOMAIN, "probe"))
        rollouts = asyncio.Semaphore(max(1, int(info.max_concurrent_requests * _ROLLOUT_SHARE)))
        self._served[version] = _Served(server, info, tokenizer, prompts, bos, rollouts, time.monotonic())
        return self._served[version]

    async def _prompt(self, served: _Served, work: Work, at: int, field: str) -> Prompt:
        if work.options.max_new_tokens > WHOLE_TOKENS:
            raise InvalidArgument("options.max_new_tokens", f"TGI writes at most {WHOLE_TOKENS:,} tokens in one go")
        async with self._prompting:
            return await asyncio.to_thread(served.prompts.build, work.histories[at], work.domain, field)

    async def _group(
        self, served: _Served, work: Work, at: int, prompt: Prompt, places: asyncio.Semaphore | None = None
    ) -> RolloutGroup:
        async def write(ask: Ask) -> Written:
            if places is None:
                return await served.server.generate(ask)
            async with places:
                return await served.server.generate(ask)

        tasks = [asyncio.create_task(write(ask)) for ask in _asks(served, work, at, prompt)]
        try:
            written = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return RolloutGroup(at, prompt.token_ids, [_rollout(served, one) for one in written], prompt.coverage)


def _name(info: Info) -> str:
    """The last part of a model id: the version, where the model is a folder of the weights store."""
    return info.model_id.rstrip("/").rpartition("/")[2]


async def _agree(server: TgiServer, tokenizer: PreTrainedTokenizerBase, probe: Prompt) -> str:
    """What to take off a prompt's text so that the server makes our tokens of it. Raises FailedPrecondition."""
    for bos in ("", str(tokenizer.bos_token or "")):
        if probe.text.startswith(bos) and await server.tokenize(probe.text.removeprefix(bos)) == probe.token_ids:
            return bos
    message = f"the TGI server {server.url} makes other tokens of a prompt than this version's tokenizer"
    raise FailedPrecondition(message, reason="TOKENS_DIFFER")


def _asks(served: _Served, work: Work, at: int, prompt: Prompt) -> list[Ask]:
    """One request for each sample, each with a seed of its own."""
    limit = min(work.options.max_new_tokens, served.info.max_total_tokens - len(prompt.token_ids))
    text = prompt.text.removeprefix(served.bos)
    keys = row_keys(work.options.seed, at, work.samples)
    return [Ask(text, limit, work.options.temperature, max(1, int(key) >> 1)) for key in keys]


def _rollout(served: _Served, written: Written) -> Rollout:
    text = profile_text(served.tokenizer, written.token_ids)
    return Rollout(text, written.token_ids, written.log_probs, written.finish_reason)
