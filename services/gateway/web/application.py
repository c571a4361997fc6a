"""Everything that the HTTP door answers: the page's files, JSON RPCs below their services' names, and nothing else.

Answers carry headers that keep a browser from doing what the page never asks for: no script but its own, no frame, no other
origin. Other hosts' names in a request are refused (DNS rebinding); a form or script of another site cannot call, since JSON
needs a preflight that is never granted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.web.transcoding import ServiceApplication

PAGE = Path(__file__).parents[1] / "page"
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


class SafeHeaders:
    """Adds the headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self._app(scope, receive, sent)


def application(services: Sequence[ServiceApplication], hosts: Sequence[str]) -> Starlette:
    """`hosts`: the names that the door is reached by; "*" allows any."""
    routes = [*(Mount(service.path, app=service) for service in services), Mount("/", app=StaticFiles(directory=PAGE, html=True))]
    middleware = [Middleware(SafeHeaders), Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)]
    return Starlette(routes=routes, middleware=middleware)
