"""A stand-in for text-generation-inference 3.3.7: real HTTP, a real (tiny) model, the real one's rules and errors.

    python -m tests.support.tgi MODEL_FOLDER --port 8080        # until SIGTERM

Why: TGI needs a GPU and a container. Its behaviour is taken from its published API (`tgi_schema`) and its router's rules:
BOS is always put before the text, sampling is seeded per request, a full server answers 429, a stream answers 200 and tells
errors as events. Every request and answer is held against the schemas. Left out: penalties, grammars, top-n tokens, batching.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from aiohttp import web
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from tests.support.tgi_schema import ANSWERS, REQUESTS, check

ERROR_TYPES = {424: "generation", 429: "overloaded", 422: "validation", 500: "incomplete_generation"}
ERROR_TEXTS = {
    424: "Request failed during generation: the shard died",
    429: "Model is overloaded",
    422: "Input validation error: refused",
    500: "Incomplete generation",
}


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str = "") -> None:
        self.status = status
        self.body = {"error": message or ERROR_TEXTS[status], "error_type": ERROR_TYPES[status]}
        check(ANSWERS["error"], self.body)
        super().__init__(message)


@dataclass
class FakeTgi:
    """`faults`: what happens to the next generation requests instead: a status, or "drop" (cut off after 3 tokens)."""

    folder: Path
    model_id: str = ""
    max_concurrent_requests: int = 128
    max_input_tokens: int = 1_024
    max_total_tokens: int = 2_048
    add_bos: bool = True  # as TGI; False to be a server that does not agree with its clients
    faults: deque[int | str] = field(default_factory=deque)
    running: int = 0
    refused: int = 0
    healthy: bool = True
    step_seconds: float = 0.0  # a pause after each token, for tests that must catch a request while it runs

    def __post_init__(self) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.model = AutoModelForCausalLM.from_pretrained(self.folder).eval()
        eos = self.model.generation_config.eos_token_id
        self.stop_ids = set(eos if isinstance(eos, list) else [eos])

    def app(self) -> web.Application:
        application = web.Application()
        application.add_routes(
            [
                web.get("/health", self.health),
                web.get("/info", self.info),
                web.get("/metrics", self.metrics),
                web.post("/tokenize", self.tokenize),
                web.post("/", self.compat),
                web.post("/generate", self.generate),
                web.post("/generate_stream", self.generate_stream),
            ]
        )
        return application

    async def health(self, _request: web.Request) -> web.Response:
        return web.Response() if self.healthy else _json({"error": "unhealthy", "error_type": "healthcheck"}, "error", 503)

    async def info(self, _request: web.Request) -> web.Response:
        told = {
            "model_id": self.model_id or str(self.folder),
            "model_sha": None,
            "model_pipeline_tag": None,
            "max_concurrent_requests": self.max_concurrent_requests,
            "max_best_of": 2,
            "max_stop_sequences": 4,
            "max_input_tokens": self.max_input_tokens,
            "max_total_tokens": self.max_total_tokens,
            "validation_workers": 2,
            "max_client_batch_size": 4,
            "router": "text-generation-router",
            "version": "3.3.7",
            "sha": None,
            "docker_label": None,
        }
        return _json(told, "/info")

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text=f"tgi_batch_current_size {self.running}\ntgi_queue_size 0\n")

    async def tokenize(self, request: web.Request) -> web.Response:
        text = (await _body(request, "/tokenize"))["inputs"]
        encoded = self.tokenizer(text, add_special_tokens=self.add_bos, return_offsets_mapping=True)
        tokens = [
            {"id": token, "text": text[start:stop], "start": start, "stop": stop}
            for token, (start, stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]
        return _json(tokens, "/tokenize")

    async def compat(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request, "/")
        if body.get("stream"):
            return await self._streamed(request, body)
        return await self._whole(request, body, "/")

    async def generate(self, request: web.Request) -> web.StreamResponse:
        return await self._whole(request, await _body(request, "/generate"), "/generate")

    async def generate_stream(self, request: web.Request) -> web.StreamResponse:
        return await self._streamed(request, await _body(request, "/generate_stream"))

    async def _whole(self, request: web.Request, body: dict[str, Any], route: str) -> web.Response:
        parameters = body.get("parameters", {})
        try:
            answers = [await self._written(request, body) for _ in range(parameters.get("best_of") or 1)]
        except Refused as refused:
            return _json(refused.body, "error", refused.status)
        first, *others = sorted(answers, key=lambda answer: -_mean_log_prob(answer))
        if not (parameters.get("details") or parameters.get("decoder_input_details")):
            answer = {"generated_text": first["generated_text"]}
        else:
            details = {key: value for key, value in first.items() if key != "generated_text"}
            details["best_of_sequences"] = others or None
            answer = {"generated_text": first["generated_text"], "details": details}
        return _json([answer] if route == "/" else answer, route)

    async def _written(self, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        parameters = body.get("parameters", {})
        async with self._place():
            prompt = self._validated(body)
            fault = self.faults.popleft() if self.faults else None
            if isinstance(fault, int):
                raise Refused(fault)
            tokens = []
            async for token in self._tokens(prompt, parameters):
                tokens.append(token)
                if (fault == "drop" and len(tokens) == 3) or request.transport is None or request.transport.is_closing():
                    if request.transport is not None:
                        request.transport.abort()
                    raise Refused(500)
            return {
                "generated_text": self._text(tokens),
                "finish_reason": self._reason(tokens),
                "generated_tokens": len(tokens),
                "prefill": self._prefill(prompt) if parameters.get("decoder_input_details") else [],
                "tokens": tokens,
                "seed": parameters.get("seed"),
            }

    async def _streamed(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            async with self._place():
                await self._write_events(request, response, body)
        except Refused as refused:
            await response.write(_event(refused.body))
        except (ConnectionResetError, asyncio.CancelledError):
            return response
        await response.write_eof()
        return response

    async def _write_events(self, request: web.Request, response: web.StreamResponse, body: dict[str, Any]) -> None:
        parameters = body.get("parameters", {})
        if (parameters.get("best_of") or 1) != 1 or parameters.get("decoder_input_details"):
            raise Refused(422, "Input validation error: not supported when streaming tokens")
        prompt = self._validated(body)
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, int):
            raise Refused(fault)
        tokens: list[dict[str, Any]] = []
        async for token in self._tokens(prompt, parameters):
            tokens.append(token)
            last = self._is_last(tokens, parameters)
            details = {"finish_reason": self._reason(tokens), "generated_tokens": len(tokens), "input_length": len(prompt)}
            event = {
                "index": len(tokens),
                "token": token,
                "generated_text": self._text(tokens) if last else None,
                "details": {**details, "seed": parameters.get("seed")} if last and parameters.get("details") else None,
            }
            check(ANSWERS["event"], event)
            await response.write(_event(event))
            if fault == "drop" and len(tokens) == 3 and request.transport:
                request.transport.abort()
                raise ConnectionResetError

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self.running >= self.max_concurrent_requests:
            self.refused += 1
            raise Refused(429)
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    def _validated(self, body: dict[str, Any]) -> list[int]:
        """The prompt's tokens. Raises Refused 422 by the router's rules."""
        parameters = body.get("parameters", {})
        wanted = parameters.get("max_new_tokens")
        ids = self.tokenizer(body["inputs"], add_special_tokens=self.add_bos)["input_ids"]
        problem = ""
        if not body["inputs"]:
            problem = "`inputs` cannot be empty"
        elif wanted == 0:
            problem = "`max_new_tokens` must be strictly positive"
        elif (parameters.get("best_of") or 1) > 1 and not parameters.get("do_sample"):
            problem = "you must use sampling when `best_of` is > 1"
        elif (parameters.get("best_of") or 1) > 1 and parameters.get("seed") is not None:
            problem = "`seed` must not be set when `best_of` > 1"
        elif (parameters.get("best_of") or 1) > 2:
            problem = "`best_of` must be > 0 and <= 2"
        elif len(ids) + min(wanted or 0, 1_024) > self.max_total_tokens:
            problem = f"`inputs` tokens + `max_new_tokens` must be <= {self.max_total_tokens}"
        elif len(ids) > self.max_input_tokens:
            problem = f"`inputs` must have less than {self.max_input_tokens} tokens. Given: {len(ids)}"
        if problem:
            raise Refused(422, f"Input validation error: {problem}")
        return list(ids)

    async def _tokens(self, prompt: list[int], parameters: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        temperature = parameters.get("temperature") or 1.0
        sampled = parameters.get("do_sample") or temperature != 1.0
        generator = torch.Generator().manual_seed(parameters.get("seed") or torch.seed())
        cache, ids = DynamicCache(), torch.tensor([prompt])
        tokens: list[dict[str, Any]] = []
        while not tokens or not self._is_last(tokens, parameters):
            log_probs = await asyncio.to_thread(self._pass, ids, cache, temperature)
            drawn = torch.multinomial(log_probs.exp(), 1, generator=generator) if sampled else log_probs.argmax()
            token = int(drawn)
            special = token in self.tokenizer.all_special_ids
            text = self.tokenizer.decode([token])
            tokens.append({"id": token, "text": text, "logprob": float(log_probs[token]), "special": special})
            await asyncio.sleep(self.step_seconds)
            yield tokens[-1]
            ids = torch.tensor([[token]])

    @torch.inference_mode()
    def _pass(self, ids: torch.Tensor, cache: DynamicCache, temperature: float) -> torch.Tensor:
        """The log-probs of the next token, after the warper. [vocabulary]"""
        logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True).logits[0, -1].float()
        return (logits / temperature).log_softmax(0)

    @torch.inference_mode()
    def _prefill(self, prompt: list[int]) -> list[dict[str, Any]]:
        log_probs = self.model(input_ids=torch.tensor([prompt])).logits[0].float().log_softmax(1)
        values = [None, *(float(log_probs[at, token]) for at, token in enumerate(prompt[1:]))]
        return [
            {"id": token, "text": self.tokenizer.decode([token]), "logprob": v} for token, v in zip(prompt, values, strict=True)
        ]

    def _is_last(self, tokens: list[dict[str, Any]], parameters: dict[str, Any]) -> bool:
        return tokens[-1]["id"] in self.stop_ids or len(tokens) == (parameters.get("max_new_tokens") or 1_024)

    def _reason(self, tokens: list[dict[str, Any]]) -> str:
        return "eos_token" if tokens[-1]["id"] in self.stop_ids else "length"

    def _text(self, tokens: list[dict[str, Any]]) -> str:
        return str(self.tokenizer.decode([token["id"] for token in tokens], skip_special_tokens=True))


@asynccontextmanager
async def serving(fake: FakeTgi, port: int = 0) -> AsyncIterator[str]:
    """The stand-in's address for the block."""
    runner = web.AppRunner(fake.app(), handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _body(request: web.Request, route: str) -> dict[str, Any]:
    body: dict[str, Any] = await request.json()
    check(REQUESTS[route], body)
    return body


def _json(value: object, schema: str, status: int = 200) -> web.Response:
    check(ANSWERS[schema], value)
    return web.json_response(value, status=status)


def _event(value: object) -> bytes:
    return f"data:{json.dumps(value)}\n\n".encode()


def _mean_log_prob(answer: dict[str, Any]) -> float:
    return float(sum(token["logprob"] for token in answer["tokens"]) / len(answer["tokens"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--model-id", default="", help="what /info says; the folder unless given")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    fake = FakeTgi(arguments.folder, arguments.model_id)
    web.run_app(fake.app(), host="127.0.0.1", port=arguments.port, print=None)


if __name__ == "__main__":
    main()
