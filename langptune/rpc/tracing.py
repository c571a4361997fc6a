"""OpenTelemetry traces of calls between services, where an OTLP endpoint is set; nothing is imported otherwise.

Spans come from the interceptors of opentelemetry-instrumentation-grpc on our own servers and channels (nothing is patched), and
go out in batches from a thread of their own: a collector that is away costs spans, never a call. What is sampled is told by the
standard variables (OTEL_TRACES_SAMPLER). A span tells its method, its times and its status; what an error says stays in the
service's log, since it may name a user.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from langptune.errors import FailedPrecondition

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_provider: TracerProvider | None = None
_NOT_TRACED = ("grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")


@contextmanager
def tracing(service: str, endpoint: str) -> Iterator[None]:
    """Trace this process's calls as `langptune-<service>` for the block, to an OTLP endpoint ("http://host:4317"; "": do not).

    Raises FailedPrecondition when the packages are not installed.
    """
    global _provider
    if not endpoint:
        yield
        return
    _provider = _start(service, endpoint)
    try:
        yield
    finally:
        provider, _provider = _provider, None
        provider.shutdown()  # sends what waits


def server_interceptors() -> list[Any]:
    """What traces the calls that are served; to stand before all others."""
    if _provider is None:
        return []
    from opentelemetry.instrumentation.grpc import aio_server_interceptor, filters

    traced = filters.all_of(*(filters.negate(filters.service_name(name)) for name in _NOT_TRACED))
    return [aio_server_interceptor(tracer_provider=_provider, filter_=traced)]


def client_interceptors() -> Sequence[Any]:
    """What traces the calls that are made, and tells the other side of whom it is a child."""
    if _provider is None:
        return []
    from opentelemetry.instrumentation.grpc import aio_client_interceptors

    interceptors: Sequence[Any] = aio_client_interceptors(tracer_provider=_provider)
    return interceptors


def trace_id() -> str:
    """The trace that the running call belongs to, 32 hex digits, for its log lines; "" where nothing is traced."""
    if _provider is None:
        return ""
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else ""


def _start(service: str, endpoint: str) -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
        from opentelemetry.trace import Status
    except ImportError:
        message = "an OTLP endpoint is set, but tracing is not installed: pip install '.[tracing]'"
        raise FailedPrecondition(message, reason="NO_TRACING") from None

    class DiscreetExporter(OTLPSpanExporter):
        """Leaves out what the library notes of errors in words."""

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return super().export([_without_words(span) for span in spans])

    def _without_words(span: ReadableSpan) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=span.context,
            parent=span.parent,
            resource=span.resource,
            attributes=span.attributes,
            links=span.links,
            kind=span.kind,
            status=Status(span.status.status_code),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: f"langptune-{service}"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(DiscreetExporter(endpoint=endpoint)))
    return provider
