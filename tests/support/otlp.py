"""An OTLP collector in this process: the published TraceService, keeping what it is sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as rpc


@dataclass(frozen=True)
class Span:
    """One span, and who made it."""

    service: str  # service.name of its resource
    name: str  # "langptune.v1.EncoderService/GenerateProfile", with "/" before it on the client's side
    trace: str
    span: str
    parent: str  # "" for the root
    server: bool  # else the client's side of a call

    @property
    def method(self) -> str:
        return self.name.rpartition("/")[2]


class Collector(rpc.TraceServiceServicer):
    """Keeps every span."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._lock = threading.Lock()
        self.endpoint = ""

    def Export(self, request: pb.ExportTraceServiceRequest, context: grpc.ServicerContext) -> pb.ExportTraceServiceResponse:  # noqa: N802
        with self._lock:
            self._spans += [
                Span(
                    next(each.value.string_value for each in resource.resource.attributes if each.key == "service.name"),
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind == span.SPAN_KIND_SERVER,
                )
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        return pb.ExportTraceServiceResponse()

    def spans(self) -> list[Span]:
        """All so far."""
        with self._lock:
            return list(self._spans)

    def wait_for(self, wanted: Callable[[list[Span]], bool], seconds: float = 60.0) -> list[Span]:
        """The spans as soon as `wanted` holds of them. AssertionError with what came when it never does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if wanted(spans := self.spans()):
                return spans
            time.sleep(0.05)
        raise AssertionError(f"not seen in {seconds:g} s: {self.spans()}")

    def settings(self) -> dict[str, str]:
        """What makes a service send its spans here, soon."""
        return {"LANGPTUNE_OTLP_ENDPOINT": self.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}


@contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector on a free port."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(4))
    rpc.add_TraceServiceServicer_to_server(collector, server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None)
