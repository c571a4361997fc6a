"""A stand-in for an OpenAI-compatible chat endpoint, after the published schema of POST /chat/completions (OpenAI API reference,
CreateChatCompletionRequest and CreateChatCompletionResponse): what a request must have is checked, an answer has what one has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Reply = Callable[[str], str | None]


@dataclass
class FakeChat:
    """Answers every message by `reply`, after the faults: a status, "drop" (the connection is closed) or "hang"."""

    reply: Reply = lambda message: "hello"
    faults: list[int | str] = field(default_factory=list)
    retry_after: str | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        assert isinstance(body["model"], str)
        assert [message["role"] for message in body["messages"]] == ["user"]
        assert 0 <= body["temperature"] <= 2
        assert isinstance(body["max_tokens"], int)
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization"))
        if self.faults:
            return await self._fail(request, self.faults.pop(0))
        message = {"role": "assistant", "content": self.reply(body["messages"][0]["content"]), "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        whole = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        return web.json_response({**whole, "usage": usage})

    async def _fail(self, request: web.Request, fault: int | str) -> web.StreamResponse:
        if fault == "drop":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if fault == "hang":
            await asyncio.Event().wait()
        if fault == "nonsense":
            return web.json_response({"object": "list"})
        headers = {"Retry-After": self.retry_after} if self.retry_after else {}
        return web.json_response({"error": {"message": "no", "type": "x"}}, status=int(fault), headers=headers)


@asynccontextmanager
async def serving_chat(fake: FakeChat) -> AsyncIterator[str]:
    """The base URL of the stand-in for the block."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", fake.complete)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
