"""What happens around every call, on the server: a request id, one log line, metrics, and errors as typed statuses.

Servicers raise `langptune.errors`; here, and only here, they become gRPC statuses. A failing Redis is told as what it means to
the caller; whatever else escapes a servicer is logged with its trace and answered as INTERNAL without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import structlog
from grpc_status import rpc_status
from redis.exceptions import RedisError

from langptune.errors import Internal, LangPTuneError, to_status
from langptune.rpc.context import REQUEST_ID_KEY, bind_request_id
from langptune.rpc.metrics import meter
from langptune.rpc.pseudonyms import bind_user
from langptune.rpc.tracing import trace_id
from langptune.state import typed_redis_error

log = structlog.get_logger(__name__)

_INTERNAL = "internal error; the service's log has the rest under this request id"
_NO_RETRY = (("grpc-retry-pushback-ms", "-1"),)  # a servicer that says UNAVAILABLE has retried already; do not multiply
OPEN_PREFIXES = ("/grpc.health.", "/grpc.reflection.")  # of the server itself: not logged, and open to everybody

Around = Callable[[Any, grpc.aio.ServicerContext], AbstractAsyncContextManager[object]]


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc.aio ships no types
    """Binds the request id, logs the outcome, translates errors; the same for unary and streaming calls."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details)
        if handler is None or details.method.startswith(OPEN_PREFIXES):
            return handler
        method: str = details.method
        return wrapped(handler, lambda request, context: _Call(method, context, request))


def wrapped(handler: grpc.RpcMethodHandler, around: Around) -> grpc.RpcMethodHandler:
    """`handler` with every call of it inside `around(request, context)`; request: the message, or the stream of messages."""
    serialization = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }
    if handler.unary_unary:
        return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary, around), **serialization)
    if handler.stream_unary:
        return grpc.stream_unary_rpc_method_handler(_unary(handler.stream_unary, around), **serialization)
    if handler.unary_stream:
        return grpc.unary_stream_rpc_method_handler(_stream(handler.unary_stream, around), **serialization)
    return grpc.stream_stream_rpc_method_handler(_stream(handler.stream_stream, around), **serialization)


def _unary(inner: Callable[..., Awaitable[Any]], around: Around) -> Callable[..., Awaitable[Any]]:
    async def call(request: Any, context: grpc.aio.ServicerContext) -> Any:
        async with around(request, context):
            return await inner(request, context)

    return call


def _stream(inner: Callable[..., AsyncIterator[Any]], around: Around) -> Callable[..., AsyncIterator[Any]]:
    async def call(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        async with around(request, context):
            async for response in inner(request, context):
                yield response

    return call


class _Call(AbstractAsyncContextManager[None, bool]):
    """One call from its first to its last moment."""

    def __init__(self, method: str, context: grpc.aio.ServicerContext, request: Any) -> None:
        """`request` is a message, or a stream of them."""
        self.method = method
        self.context = context
        self.request = request
        self.meter = meter(method)
        self.started = self.meter.begin()

    async def __aenter__(self) -> None:
        structlog.contextvars.clear_contextvars()
        request_id = bind_request_id(self.context.invocation_metadata() or ())
        bind_user(self.request)
        if trace := trace_id():
            structlog.contextvars.bind_contextvars(trace_id=trace)
        self.context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is None:
            self._end("OK")
            return False
        if isinstance(error, (asyncio.CancelledError, GeneratorExit, grpc.aio.AbortError)):
            left = self.context.time_remaining()
            self._end("CANCELLED" if left is None or left > 0 else "DEADLINE_EXCEEDED")
            return False
        if isinstance(error, LangPTuneError):
            answer = error
            self._end(answer.code.name, error=answer.message)
        else:
            answer = typed_redis_error(error) if isinstance(error, RedisError) else Internal(_INTERNAL)
            self._end(answer.code.name, exc_info=error)
        trailing = ((REQUEST_ID_KEY, structlog.contextvars.get_contextvars()["request_id"]),)
        status = rpc_status.to_status(to_status(answer))
        await self.context.abort(status.code, status.details, (*trailing, *_NO_RETRY, *status.trailing_metadata))
        return True

    def _end(self, code: str, **more: Any) -> None:
        """Count the call and write its line; one that carries a trace is an error of ours."""
        seconds = round(self.meter.end(self.started, code), 4)
        tell = log.error if "exc_info" in more else log.info
        tell("call", method=self.method, code=code, seconds=seconds, **more)
