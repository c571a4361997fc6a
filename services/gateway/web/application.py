"""Everything that the HTTP door answers: the page's files, JSON RPCs below their services' names, and nothing else.

Answers carry headers that keep a browser from doing what the page never asks for: no script but its own, no markup from text,
no frame, no other origin. Other hosts' names in a request are refused (DNS rebinding). A form or script of another site cannot
call: JSON needs a preflight that is never granted, a request that names another origin is refused, and there is no cookie that
could be misused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.web.transcoding import ServiceApplication

PAGE = Path(__file__).parents[1] / "page"
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
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


class SameOrigin:
    """Refuses what a browser sends on behalf of another origin. A proxy in front must pass the Host on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None or urlsplit(origin).netloc == headers.get("host"):
            await self._app(scope, receive, send)
        else:
            await PlainTextResponse("Requests of other sites are not answered.", 403)(scope, receive, send)


def application(services: Sequence[ServiceApplication], hosts: Sequence[str]) -> Starlette:
    """`hosts`: the names that the door is reached by; "*" allows any."""
    routes = [*(Mount(service.path, app=service) for service in services), Mount("/", app=StaticFiles(directory=PAGE, html=True))]
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    middleware = [Middleware(SafeHeaders), trusted, Middleware(SameOrigin)]
    return Starlette(routes=routes, middleware=middleware)
