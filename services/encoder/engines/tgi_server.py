"""One text-generation-inference server (TGI 3.3) over HTTP: the only place that knows its API.

huggingface_hub's client speaks the generation protocol; /info, /health and /tokenize, which it has no working methods for, are
asked with the HTTP library that it is built on. TGI answers a stream with 200 and tells errors inside it; a refusal (429) means
that all of its places are taken. Left out: best_of, which forbids a seed, grammars, penalties and every other warper - log-probs
are taken after them, so with them they would not be the policy's.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from huggingface_hub import AsyncInferenceClient, TextGenerationOutput, TextGenerationOutputDetails
from huggingface_hub.errors import GenerationError, HfHubHTTPError, IncompleteGenerationError, OverloadedError, ValidationError

from langptune.errors import FailedPrecondition, InvalidArgument, LangPTuneError, Unavailable
from services.encoder.engines.admission import Admission
from services.encoder.engines.port import FinishReason

WHOLE_TOKENS = 1_024  # past these TGI re-reads its own text and goes on from its tokens, which may be others
_ATTEMPTS = 4
_FIRST_WAIT = 0.1  # seconds before the second attempt; doubled each time, and up to as much again at random
_PROBE_TIMEOUT = 5.0  # seconds for /info, /health, /tokenize
_NO_TOKEN = "none"  # without one, the library would send the Hugging Face token that is saved on this machine

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Info:
    """What a server says of itself."""

    model_id: str  # the folder or hub id that it was started with
    max_input_tokens: int
    max_total_tokens: int
    max_concurrent_requests: int


@dataclass(frozen=True, slots=True)
class Ask:
    """One text to be continued; TGI puts BOS before it."""

    text: str
    max_new_tokens: int
    temperature: float  # 0 is greedy
    seed: int  # 1 .. 2^63 - 1


@dataclass(frozen=True, slots=True)
class Written:
    """What was written."""

    token_ids: tuple[int, ...]  # EOS included, if it came to that
    log_probs: tuple[float, ...]  # nats per token
    finish_reason: FinishReason


class TgiServer:
    """A server at `url`; `timeout` seconds for one text. Refusals are told with `admission`'s advice."""

    def __init__(self, url: str, timeout: float, admission: Admission) -> None:
        self.url = url
        self._timeout = timeout
        self._admission = admission
        self._probes = httpx2.AsyncClient(base_url=url, timeout=_PROBE_TIMEOUT)
        self._client = AsyncInferenceClient(model=url, token=_NO_TOKEN, timeout=timeout)

    async def info(self) -> Info:
        """Raises Unavailable."""
        told = await self._probe("GET", "/info")
        return Info(**{name: told[name] for name in Info.__dataclass_fields__})

    async def is_healthy(self) -> bool:
        """Whether it says so of itself."""
        try:
            return (await self._probes.get("/health")).status_code == 200
        except httpx2.HTTPError:
            return False

    async def tokenize(self, text: str) -> list[int]:
        """The tokens that it makes of `text`, BOS included. Raises Unavailable."""
        return [token["id"] for token in await self._probe("POST", "/tokenize", {"inputs": text})]

    async def generate(self, ask: Ask) -> Written:
        """Raises ResourceExhausted, InvalidArgument, Unavailable."""
        output = await self._patiently(lambda: self._client.text_generation(ask.text, details=True, **_parameters(ask)))
        return _written(_details(output).tokens, _details(output).finish_reason)

    async def score(self, text: str) -> list[tuple[int, float]]:
        """Each token of `text` with its log-prob given those before it (of the first: 0). Raises as `generate`."""
        output = await self._patiently(
            lambda: self._client.text_generation(text, details=True, decoder_input_details=True, max_new_tokens=1)
        )
        return [(token.id, token.logprob or 0.0) for token in _details(output).prefill]

    async def stream(self, ask: Ask) -> AsyncGenerator[int | Written, None]:
        """Token by token, at last the whole. Attempts are repeated until a first token has come. Raises as `generate`."""
        # A client of its own: the library keeps a stream's connection open until its client is closed.
        async with AsyncInferenceClient(model=self.url, token=_NO_TOKEN, timeout=self._timeout) as client:

            async def begin() -> tuple[Any, AsyncIterable[Any]]:
                events = await client.text_generation(ask.text, details=True, stream=True, **_parameters(ask))
                return await anext(aiter(events), None), events

            event, events = await self._patiently(begin)
            tokens = []
            try:
                while event is not None:
                    tokens.append(event.token)
                    yield event.token.id
                    if event.details:
                        yield _written(tokens, event.details.finish_reason)
                        return
                    event = await anext(aiter(events), None)
            except httpx2.HTTPError as error:
                raise self._typed(error) from error
            raise Unavailable(f"the TGI server {self.url} ended a stream in the middle")

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()  # type: ignore[no-untyped-call]  # huggingface_hub annotates in part
        await self._probes.aclose()

    async def _probe(self, method: str, path: str, body: object = None) -> Any:
        try:
            answer = await self._probes.request(method, path, json=body)
            answer.raise_for_status()
            return answer.json()
        except httpx2.HTTPError as error:
            raise self._typed(error) from error

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """At most _ATTEMPTS attempts; what a repetition cannot mend is raised at once."""
        for wait in (_FIRST_WAIT * 2**count for count in range(_ATTEMPTS - 1)):
            try:
                return await attempt()
            except httpx2.HTTPError as error:
                if not self._typed(error).code.name.startswith(("RESOURCE", "UNAVAILABLE")):
                    raise self._typed(error) from error
            await asyncio.sleep(wait * (1 + random.random()))
        try:
            return await attempt()
        except httpx2.HTTPError as error:
            raise self._typed(error) from error

    def _typed(self, error: httpx2.HTTPError) -> LangPTuneError:
        """What a failure means to the caller."""
        status = error.response.status_code if isinstance(error, (HfHubHTTPError, httpx2.HTTPStatusError)) else 0
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        message = f"the TGI server {self.url}: {reason}"
        if isinstance(error, OverloadedError) or status == 429:
            return self._admission.refusal(message)
        if isinstance(error, ValidationError) or status == 422:
            return InvalidArgument("request", message)
        if isinstance(error, (GenerationError, IncompleteGenerationError)) or not 400 <= status < 500 or status == 424:
            return Unavailable(message)
        return FailedPrecondition(message, reason="TGI_REFUSED")


def _parameters(ask: Ask) -> dict[str, Any]:
    if ask.temperature == 0:
        return {"max_new_tokens": ask.max_new_tokens}
    sampling: dict[str, Any] = {"max_new_tokens": ask.max_new_tokens, "do_sample": True, "seed": ask.seed}
    return sampling if ask.temperature == 1 else {**sampling, "temperature": ask.temperature}


def _details(output: TextGenerationOutput) -> TextGenerationOutputDetails:
    if output.details is None:
        raise Unavailable("the TGI server left the details out")
    return output.details


def _written(tokens: Sequence[Any], finish_reason: str) -> Written:
    return Written(
        token_ids=tuple(token.id for token in tokens),
        log_probs=tuple(token.logprob for token in tokens),
        finish_reason="length" if finish_reason == "length" else "stop",
    )
