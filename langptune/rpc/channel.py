"""How a service or a client is called: deadlines on every call, the request id passed on, statuses back as typed errors.

Retries are gRPC's own: at most three attempts, only for UNAVAILABLE, never after a first answer has come.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import grpc
from grpc_status import rpc_status

from langptune.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    LangPTuneError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    from_status,
)
from langptune.rpc.breaker import Breaker
from langptune.rpc.connection import Connection
from langptune.rpc.context import REQUEST_ID_KEY, current_request_id
from langptune.rpc.tls import Tls

Metadata = tuple[tuple[str, str], ...]

_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


class Channel:
    """What generated stubs are built on: `EncoderServiceStub(channel)`. Calls raise `langptune.errors`, never gRPC's own.

    `await stub.Method(request, timeout=seconds)` for one answer, `async for` over the same for a stream; without `timeout` a call
    gets the channel's default. `metadata` of a call goes out with it, beside what the channel sends with every call.
    """

    def __init__(self, connection: Connection, timeout: float, metadata: Metadata = (), breaker: Breaker | None = None) -> None:
        self._connection = connection
        self._timeout = timeout
        self._metadata = metadata
        self._watched: Callable[[], AbstractContextManager[None]] = breaker.call if breaker else nullcontext

    def unary_unary(self, *args: Any, **kwargs: Any) -> Callable[..., Awaitable[Any]]:
        return self._single(lambda inner: inner.unary_unary(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Callable[..., Awaitable[Any]]:
        method = self._single(lambda inner: inner.stream_unary(*args, **kwargs))

        async def call(requests: AsyncIterable[Any], *, timeout: float | None = None) -> Any:
            source = _Source(requests)
            try:
                return await method(source.read(), timeout=timeout)
            except (asyncio.CancelledError, Cancelled):
                if source.error is not None:  # gRPC cancels the call and keeps the cause to itself
                    raise source.error from None
                raise

        return call

    def unary_stream(self, *args: Any, **kwargs: Any) -> Callable[..., AsyncIterator[Any]]:
        return self._several(lambda inner: inner.unary_stream(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Callable[..., AsyncIterator[Any]]:
        return self._several(lambda inner: inner.stream_stream(*args, **kwargs))

    async def ready(self, timeout: float) -> None:
        """Return once the other side can be reached. Raises DeadlineExceeded."""
        try:
            await asyncio.wait_for(self._connection.current().channel_ready(), timeout)
        except TimeoutError:
            raise DeadlineExceeded(f"not reachable within {timeout:g} s") from None

    async def close(self) -> None:
        """Close the connection; running calls end as CANCELLED."""
        await self._connection.close()

    def _single(self, make: Callable[[grpc.aio.Channel], Any]) -> Callable[..., Awaitable[Any]]:
        bound = self._connection.bound(make)

        async def call(request: Any, *, timeout: float | None = None, metadata: Metadata = ()) -> Any:
            with self._watched():
                try:
                    return await bound()(request, timeout=timeout or self._timeout, metadata=self._sent(metadata))
                except grpc.aio.AioRpcError as error:
                    raise typed_error(error) from None

        return call

    def _several(self, make: Callable[[grpc.aio.Channel], Any]) -> Callable[..., AsyncIterator[Any]]:
        bound = self._connection.bound(make)

        async def call(request: Any, *, timeout: float | None = None, metadata: Metadata = ()) -> AsyncIterator[Any]:
            with self._watched():
                running = bound()(request, timeout=timeout or self._timeout, metadata=self._sent(metadata))
                try:
                    async for response in running:
                        yield response
                except grpc.aio.AioRpcError as error:
                    raise typed_error(error) from None
                finally:
                    running.cancel()  # a caller that stops reading early stops the other side, too

        return call

    def _sent(self, metadata: Metadata) -> Metadata:
        return ((REQUEST_ID_KEY, current_request_id()), *self._metadata, *metadata)


class _Source:
    """A caller's stream of requests, and the error that it broke with."""

    def __init__(self, requests: AsyncIterable[Any]) -> None:
        self._requests = requests
        self.error: Exception | None = None

    async def read(self) -> AsyncIterator[Any]:
        try:
            async for request in self._requests:
                yield request
        except Exception as error:  # raised to the caller by `stream_unary`, whatever it is
            self.error = error
            raise


def open_channel(
    address: str,
    *,
    timeout: float = 30.0,
    max_message_bytes: int = 16 << 20,
    token: str = "",
    breaker: Breaker | None = None,
    tls: Tls | None = None,
    server_name: str = "",
) -> Channel:
    """A channel to `address` ("host:port"). Calls without a deadline of their own get `timeout` seconds; all bring `token`.

    With a `breaker` calls fail at once while the other side does not answer. With `tls` the other side must prove that it is
    `server_name`, else the host of `address`. Raises FailedPrecondition for files of `tls` that are of no use.
    """
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    if tls and server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    return Channel(Connection(address, options, tls), timeout, bearer(token) if token else (), breaker)


def bearer(token: str) -> Metadata:
    """What a call sends with it to say who calls."""
    return (("authorization", f"Bearer {token}"),)


def typed_error(error: grpc.aio.AioRpcError) -> LangPTuneError:
    """The error of `langptune.errors` that a failed call stands for."""
    status = rpc_status.from_call(error)
    if status is not None and status.details:
        return from_status(status)
    message = error.details() or error.code().name
    match error.code():
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable(message)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(message)
        case grpc.StatusCode.CANCELLED:
            return Cancelled(message)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ResourceExhausted(message, retry_after=1.0)
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidArgument("request", message)
        case grpc.StatusCode.UNAUTHENTICATED:
            return Unauthenticated(message)
        case grpc.StatusCode.PERMISSION_DENIED:
            return PermissionDenied(message)
        case grpc.StatusCode.UNIMPLEMENTED:
            return NotFound("method", message)
        case _:
            return Internal(message)
