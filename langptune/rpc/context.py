"""What goes along with a request from service to service: its id, bound to every log line, and who the gateway knows to call."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable

import structlog

REQUEST_ID_KEY = "x-request-id"
CALLER_KEY = "x-langptune-caller"  # the subject of a token that the gateway has checked; it takes none from outside
_ACCEPTABLE = re.compile(r"[A-Za-z0-9-]{8,64}")


def bind_request_id(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Take the caller's request id, or make one, and bind it to the logs of this task."""
    given = next((value for key, value in metadata if key == REQUEST_ID_KEY), "")
    request_id = given if isinstance(given, str) and _ACCEPTABLE.fullmatch(given) else uuid.uuid4().hex
    structlog.contextvars.bind_contextvars(request_id=request_id)
    return request_id


def current_request_id() -> str:
    """The request id of this task; a new one outside any request."""
    bound = structlog.contextvars.get_contextvars().get("request_id")
    return bound if isinstance(bound, str) else uuid.uuid4().hex


def known_caller(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Whom the gateway knows to call; "" where it asks for no tokens."""
    return next((value for key, value in metadata if key == CALLER_KEY and isinstance(value, str)), "")
