"""The typed errors of the system, and their form on the wire (google.rpc.Status with details).

A servicer raises one of these; the server's interceptor turns it into a status; the client's interceptor turns the status
back into the same class. Anything else that escapes a servicer becomes INTERNAL with no text of its own: a stack trace
never leaves a service.
"""

from __future__ import annotations

from typing import ClassVar

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

ERROR_DOMAIN = "langptune"


class LangPTuneError(Exception):
    """Base of every error that a caller may see; `code` is its gRPC status."""

    code: ClassVar[StatusCode] = StatusCode.INTERNAL

    def __init__(self, message: str, *, reason: str = "", metadata: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason  # UPPER_SNAKE_CASE, for programs
        self.metadata = metadata or {}

    def details(self) -> list[any_pb2.Any]:
        """The machine-readable part, packed for google.rpc.Status.details."""
        info = error_details_pb2.ErrorInfo(reason=self.reason or self.code.name, domain=ERROR_DOMAIN, metadata=self.metadata)
        return [_pack(info)]


class InvalidArgument(LangPTuneError):
    """The request is wrong in itself; `field` names the part that is."""

    code = StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}", reason="INVALID_ARGUMENT", metadata={"field": field})
        self.field = field

    def details(self) -> list[any_pb2.Any]:
        violation = error_details_pb2.BadRequest.FieldViolation(field=self.field, description=self.message)
        return [*super().details(), _pack(error_details_pb2.BadRequest(field_violations=[violation]))]


class NotFound(LangPTuneError):
    """A resource that the request names does not exist."""

    code = StatusCode.NOT_FOUND

    def __init__(self, resource: str, identifier: str) -> None:
        metadata = {"resource": resource, "id": identifier}
        super().__init__(f"{resource} {identifier!r} does not exist", reason="NOT_FOUND", metadata=metadata)
        self.resource = resource
        self.identifier = identifier


class AlreadyExists(LangPTuneError):
    """The resource is there already, and is not the same."""

    code = StatusCode.ALREADY_EXISTS


class Aborted(LangPTuneError):
    """Somebody else was first; `etag` is the current one, to be read again and retried with."""

    code = StatusCode.ABORTED

    def __init__(self, message: str, *, etag: str) -> None:
        super().__init__(message, reason="ETAG_MISMATCH", metadata={"etag": etag})
        self.etag = etag


class FailedPrecondition(LangPTuneError):
    """The request is fine, the state of the system is not; retrying without changing it is useless."""

    code = StatusCode.FAILED_PRECONDITION


class ResourceExhausted(LangPTuneError):
    """Too much is asked at once; worth retrying after `retry_after` seconds."""

    code = StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, reason="RESOURCE_EXHAUSTED", metadata={"retry_after": f"{retry_after:g}"})
        self.retry_after = retry_after

    def details(self) -> list[any_pb2.Any]:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(self.retry_after * 1000))
        return [*super().details(), _pack(error_details_pb2.RetryInfo(retry_delay=delay))]


class Unauthenticated(LangPTuneError):
    """The call brings no token, or one that does not hold; `reason`: TOKEN_MISSING, TOKEN_EXPIRED or TOKEN_INVALID."""

    code = StatusCode.UNAUTHENTICATED


class PermissionDenied(LangPTuneError):
    """The token holds, but is not for this: `reason` is NOT_YOURS or SCOPE_MISSING. Another token is needed."""

    code = StatusCode.PERMISSION_DENIED


class Unavailable(LangPTuneError):
    """A part of the system cannot be reached or is shutting down; worth retrying."""

    code = StatusCode.UNAVAILABLE


class DeadlineExceeded(LangPTuneError):
    """The answer did not come in the time that the caller gave."""

    code = StatusCode.DEADLINE_EXCEEDED


class Cancelled(LangPTuneError):
    """The caller, or an operator, called it off."""

    code = StatusCode.CANCELLED


class Internal(LangPTuneError):
    """A defect of ours; the log of the service has the rest under the same request id."""

    code = StatusCode.INTERNAL


_PLAIN: dict[int, type[LangPTuneError]] = {
    kind.code.value[0]: kind
    for kind in (
        AlreadyExists,
        FailedPrecondition,
        Unauthenticated,
        PermissionDenied,
        Unavailable,
        DeadlineExceeded,
        Cancelled,
        Internal,
    )
}


def to_status(error: LangPTuneError) -> status_pb2.Status:
    """The error as it crosses the wire."""
    return status_pb2.Status(code=error.code.value[0], message=error.message, details=error.details())


def from_status(status: status_pb2.Status) -> LangPTuneError:
    """The error that `to_status` was given; statuses that are not ours keep their code and message."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
    metadata = dict(info.metadata)
    return _rebuild(status.code, status.message, info.reason, metadata)


def _rebuild(code: int, message: str, reason: str, metadata: dict[str, str]) -> LangPTuneError:
    if code == InvalidArgument.code.value[0]:
        field = metadata.get("field", "request")
        return InvalidArgument(field, message.removeprefix(f"{field}: "))
    if code == NotFound.code.value[0] and "id" in metadata:
        return NotFound(metadata["resource"], metadata["id"])
    if code == Aborted.code.value[0]:
        return Aborted(message, etag=metadata.get("etag", ""))
    if code == ResourceExhausted.code.value[0]:
        return ResourceExhausted(message, retry_after=float(metadata.get("retry_after", "1")))
    return _PLAIN.get(code, Internal)(message, reason=reason, metadata=metadata)


def _pack(message: object) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)  # type: ignore[arg-type]
    return packed
