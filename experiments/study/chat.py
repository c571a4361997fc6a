"""One model behind an OpenAI-compatible endpoint: the only place that knows the chat-completions protocol.

Every attempt has a deadline; refusals for load (408, 409, 429, 5xx) and broken connections are retried a few times, after as long
as the endpoint asks for, within limits. Left out: streaming, tools, several choices.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx2

from langptune.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, NotFound, Unavailable

API_KEY_VARIABLE = "LANGPTUNE_JUDGE_API_KEY"
_AGAIN = frozenset({408, 409, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How to ask."""

    timeout: float = 120.0  # seconds for one attempt
    attempts: int = 5
    first_wait: float = 1.0  # seconds before the second attempt; doubled each time, and up to as much again at random
    longest_wait: float = 60.0  # seconds; also the most that a Retry-After is believed
    max_tokens: int = 256  # of an answer
    temperature: float = 0.0
    seed: int = 0


class ChatEndpoint:
    """`model` at `base_url` (the part before /chat/completions); the key comes from LANGPTUNE_JUDGE_API_KEY, if there is one."""

    def __init__(self, base_url: str, model: str, options: ChatOptions | None = None) -> None:
        self.model = model
        self._options = options or ChatOptions()
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        key = os.environ.get(API_KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx2.AsyncClient(timeout=self._options.timeout, headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._client.aclose()

    async def complete(self, message: str) -> str:
        """The model's answer to one user message; "" where it declines to give any.

        Raises InvalidArgument, NotFound or FailedPrecondition for a request that the endpoint will never take, DeadlineExceeded
        or Unavailable when the last attempt has failed.
        """
        for attempt in range(1, self._options.attempts):
            try:
                answer = await self._post(message)
            except httpx2.TransportError:
                await asyncio.sleep(self._wait(attempt, None))
                continue
            if answer.status_code not in _AGAIN:
                return self._read(answer)
            await asyncio.sleep(self._wait(attempt, answer.headers.get("retry-after")))
        try:
            return self._read(await self._post(message))
        except httpx2.TimeoutException as error:
            raise DeadlineExceeded(f"{self._url} gave no answer in {self._options.timeout:g} s") from error
        except httpx2.TransportError as error:
            raise Unavailable(f"{self._url} cannot be reached: {error}", reason="JUDGE") from error

    async def _post(self, message: str) -> httpx2.Response:
        options = self._options
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": message}],
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
            "seed": options.seed,
        }
        return await self._client.post(self._url, json=body)

    def _read(self, answer: httpx2.Response) -> str:
        status = answer.status_code
        if status in (401, 403):
            raise FailedPrecondition(f"{self._url} refuses the key ({status}); set {API_KEY_VARIABLE}", reason="JUDGE_KEY")
        if status == 404:
            raise NotFound("model or endpoint", f"{self.model} at {self._url}")
        if status in _AGAIN:
            raise Unavailable(f"{self._url} answers {status}", reason="JUDGE")
        if not answer.is_success:
            raise InvalidArgument("judge", f"{self._url} answers {status}: {answer.text[:200]}")
        try:
            return _content(answer.json())
        except (ValueError, LookupError, TypeError) as error:
            raise FailedPrecondition(f"{self._url} does not answer as a chat endpoint: {error}", reason="JUDGE") from error

    def _wait(self, attempt: int, asked: str | None) -> float:
        """Seconds; a Retry-After in seconds is taken as it is, a date is not read."""
        if asked and asked.isdecimal():
            return min(float(asked), self._options.longest_wait)
        wait = self._options.first_wait * 2.0 ** (attempt - 1)
        return float(min(wait * (1 + random.random()), self._options.longest_wait))


def _content(body: Any) -> str:
    message = body["choices"][0]["message"]
    return str(message["content"] or "")  # null: the model refused, or called a tool that nobody gave it
