"""Connect JSON from the same protos: POST /langptune.v1.ProfileService/GetProfile with a JSON body, and the like.

Every call goes on over gRPC to the gateway itself, with the caller's deadline, request id and authorization, so that whatever
is checked and logged there holds here, too. Streams from the client (imports) are left to gRPC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

from connectrpc.code import Code
from connectrpc.compat import google_protobuf_codecs
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf import any_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from protobuf.wkt import Any as AnyMessage

from langptune.errors import LangPTuneError
from langptune.rpc import Channel, bind_request_id
from langptune.rpc.channel import Metadata

_CODES = {code.name: code for code in Code} | {"CANCELLED": Code.CANCELED}


class ServiceApplication(ConnectASGIApplication[Channel]):
    """One proto service as an ASGI application; `channel` leads to where it is served over gRPC."""

    def __init__(self, service: ServiceDescriptor, channel: Channel, *, longest: float, max_bytes: int) -> None:
        """`longest`: seconds that a call may take whose caller sets no deadline; `max_bytes`: of one message."""
        self._name = service.full_name
        methods = [method for method in service.methods if not method.client_streaming]
        super().__init__(
            service=channel,
            endpoints=lambda channel: {f"/{self._name}/{each.name}": _endpoint(each, channel, longest) for each in methods},
            read_max_bytes=max_bytes,
            codecs=google_protobuf_codecs(),
        )

    @property
    def path(self) -> str:
        """Where it is mounted."""
        return f"/{self._name}"


def _endpoint(method: MethodDescriptor, channel: Channel, longest: float) -> Any:  # of the set that Endpoint stands for
    path = f"/{method.containing_service.full_name}/{method.name}"
    request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    serialization: Mapping[str, Any] = {
        "request_serializer": request.SerializeToString,
        "response_deserializer": response.FromString,
    }
    information = MethodInfo(
        name=method.name,
        service_name=method.containing_service.full_name,
        input=request,
        output=response,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.SERVER_STREAM if method.server_streaming else StreamType.UNARY,
    )
    if method.server_streaming:
        return Endpoint.server_stream(information, _stream(channel.unary_stream(path, **serialization), longest))
    return Endpoint.unary(information, _unary(channel.unary_unary(path, **serialization), longest))


def _unary(
    call: Callable[..., Awaitable[Message]], longest: float
) -> Callable[[Message, RequestContext[Any, Any]], Awaitable[Message]]:
    async def handle(request: Message, context: RequestContext[Any, Any]) -> Message:
        metadata = _bind(context)
        try:
            return await call(request, timeout=_timeout(context, longest), metadata=metadata)
        except LangPTuneError as error:
            raise _connect_error(error) from None

    return handle


def _stream(
    call: Callable[..., AsyncIterator[Message]], longest: float
) -> Callable[[Message, RequestContext[Any, Any]], AsyncIterator[Message]]:
    async def handle(request: Message, context: RequestContext[Any, Any]) -> AsyncIterator[Message]:
        metadata = _bind(context)
        try:
            async for response in call(request, timeout=_timeout(context, longest), metadata=metadata):
                yield response
        except LangPTuneError as error:
            raise _connect_error(error) from None

    return handle


def _bind(context: RequestContext[Any, Any]) -> Metadata:
    """Take over the request id; returns what else of the headers goes on: who calls."""
    headers: Iterable[tuple[str, str]] = context.request_headers.allitems()
    lowered = [(key.lower(), value) for key, value in headers]
    bind_request_id(lowered)
    return tuple((key, value) for key, value in lowered if key == "authorization" and value.isascii() and value.isprintable())


def _timeout(context: RequestContext[Any, Any], longest: float) -> float:
    left = context.timeout_ms
    return longest if left is None else max(left / 1_000, 0.001)


def _connect_error(error: LangPTuneError) -> ConnectError:
    details = [_detail(detail) for detail in error.details()]
    return ConnectError(_CODES[error.code.name], error.message, details)


def _detail(packed: any_pb2.Any) -> ErrorDetail:
    return ErrorDetail(AnyMessage(type_url=packed.type_url, value=packed.value))
