"""What every call passes before its servicer: a token that holds, a row of the table that lets it in, and the limits.

The JSON door calls the gateway's own gRPC door with what the browser sent, so it passes here, too. Health and reflection are
open. What is refused is raised as a typed error; the interceptor around this one answers it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog

from langptune.errors import PermissionDenied
from langptune.identity import Scope
from langptune.rpc.interceptors import OPEN_PREFIXES, wrapped
from services.gateway.identity.limits import Limiter
from services.gateway.identity.policy import POLICY, Rule
from services.gateway.identity.tokens import CALLER, Caller, TokenChecker


class Guard(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc.aio ships no types
    """Lets calls in."""

    def __init__(self, checker: TokenChecker, limiter: Limiter, policy: Mapping[str, Rule] = POLICY) -> None:
        self._checker = checker
        self._limiter = limiter
        self._policy = policy

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(details)
        if handler is None or details.method.startswith(OPEN_PREFIXES):
            return handler
        rule = self._policy.get(details.method)

        @asynccontextmanager
        async def admitted(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
            caller = await self._checker.caller(context.invocation_metadata() or ())
            if rule is None:
                raise PermissionDenied("nobody may call this", reason="NOT_SERVED")
            user = request.user_id if rule.own else caller.subject
            if rule.scope is not None and not (rule.own and user == caller.subject):
                structlog.contextvars.bind_contextvars(caller=caller.subject)  # who did what; a user's own calls stay unnamed
            rule.check(caller, request)
            await self._limiter.admit(rule.cost, user=user, key=_program(caller))
            CALLER.set(caller)
            yield

        return wrapped(handler, admitted)


def _program(caller: Caller) -> str:
    """What calls: the program that the token was given to, or its subject where that is a program."""
    return caller.client_id or (caller.subject if caller.has(Scope.USERS) else "")
