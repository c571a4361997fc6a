"""RPCs that are passed on as they are: the trainer's and the releases', for operators.

Messages go through as bytes, so a new field or method of those services needs no change here; deadlines, request id, typed
errors and cancellation go through, too, and who the gateway knows to call goes along. When the gateway stops, streams end as
UNAVAILABLE, to be taken up again elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from langptune.errors import Unavailable
from langptune.rpc import Channel
from langptune.rpc.channel import Metadata
from langptune.rpc.context import CALLER_KEY
from services.gateway.identity.tokens import CALLER

_PRINTABLE = "!#$&'()*+,/:;=?@[]|"  # what metadata takes as it is of a subject ("auth0|123")
_LONGEST = (
    7 * 86_400.0
)  # seconds that a call may take whose caller sets no deadline: a publish loads models, a watched job trains


def forward(server: grpc.aio.Server, service: ServiceDescriptor, channel: Channel, stopping: asyncio.Event) -> None:
    """Serve every method of `service` by calling the same method on `channel`, until `stopping` is set."""
    handlers = {method.name: _handler(method, channel, stopping) for method in service.methods}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))


def _handler(method: MethodDescriptor, channel: Channel, stopping: asyncio.Event) -> grpc.RpcMethodHandler:
    if method.client_streaming:
        raise NotImplementedError(f"{method.full_name}: streams from the client are not passed on")
    path = f"/{method.containing_service.full_name}/{method.name}"
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(_stream(channel.unary_stream(path), stopping))
    return grpc.unary_unary_rpc_method_handler(_unary(channel.unary_unary(path)))


def _unary(call: Callable[..., Awaitable[bytes]]) -> Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]:
    async def handle(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return await call(request, timeout=_timeout(context), metadata=_known())

    return handle


def _stream(
    call: Callable[..., AsyncIterator[bytes]], stopping: asyncio.Event
) -> Callable[[bytes, grpc.aio.ServicerContext], AsyncIterator[bytes]]:
    async def handle(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        running = call(request, timeout=_timeout(context), metadata=_known())
        stopped = asyncio.create_task(stopping.wait())
        try:
            while (response := await _next(running, stopped)) is not None:
                yield response
        finally:
            stopped.cancel()

    return handle


async def _next(running: AsyncIterator[bytes], stopped: asyncio.Task[bool]) -> bytes | None:
    following: asyncio.Task[bytes | None] = asyncio.ensure_future(anext(running, None))
    try:
        await asyncio.wait((following, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not following.done():
            raise Unavailable("the gateway is shutting down; call again")
        return following.result()
    finally:
        following.cancel()


def _known() -> Metadata:
    caller = CALLER.get()
    return ((CALLER_KEY, quote(caller.subject, safe=_PRINTABLE)),) if caller else ()


def _timeout(context: Any) -> float:
    left = context.time_remaining()
    return _LONGEST if left is None else max(left, 0.001)
