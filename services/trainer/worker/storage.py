"""A full disk, told as what it is, whichever library met it.

torch wraps a failed write in a RuntimeError and safetensors in an error of its own; to an operator they are all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from safetensors import SafetensorError

from langptune.errors import FailedPrecondition

log = structlog.get_logger(__name__)


@contextmanager
def writing(what: str, place: Path) -> Iterator[None]:
    """Around code that only writes files. Raises FailedPrecondition, reason STORAGE, when they cannot be written."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        log.error("cannot write", what=what, place=str(place), error=repr(error))
        cause = error.strerror if isinstance(error, OSError) and error.strerror else "the disk may be full"
        raise FailedPrecondition(f"{what} cannot be written below {place}: {cause}", reason="STORAGE") from error
