"""Lists page by page, until there is no further page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any


async def pages(method: Callable[[Any], Awaitable[Any]], request: Any) -> AsyncIterator[Any]:
    """The answers to `request`, whose page token moves on."""
    while True:
        response = await method(request)
        yield response
        request.page_token = response.next_page_token
        if not response.next_page_token:
            return
