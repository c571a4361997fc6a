"""Page tokens: opaque to callers, the last element's key to us."""

from __future__ import annotations

import base64
import binascii

from langptune.errors import InvalidArgument


def to_token(key: str) -> str:
    """The page_token that continues after `key`."""
    return base64.urlsafe_b64encode(key.encode()).decode()


def from_token(token: str) -> str:
    """The inverse of `to_token`; "" for "". Raises InvalidArgument."""
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise bad_token() from None


def bad_token() -> InvalidArgument:
    """For a token that no answer of ours held, or that has expired."""
    return InvalidArgument("page_token", "is not a next_page_token of this list; start again without one")
