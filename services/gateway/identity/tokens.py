"""From `authorization: Bearer <token>` to who calls. What the caller is told is enough to mend it and says nothing of why a
forgery failed; the log has the kind of failure, never the token.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jwt
import structlog

from langptune.errors import Unauthenticated
from langptune.identity import Scope
from services.gateway.identity.keys import Keys

log = structlog.get_logger(__name__)

AUTHORIZATION = "authorization"
_LONGEST = 8_192  # characters of a token
_REQUIRED = ["exp", "sub", "aud", "iss"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a token says that calls."""

    subject: str  # the user's id
    scopes: frozenset[str]
    client_id: str = ""  # the program that the token was given to, where it says so

    def has(self, scope: Scope) -> bool:
        """Whether the token carries `scope`, by name or within OPERATOR."""
        return scope in self.scopes or (scope is not Scope.USERS and Scope.OPERATOR in self.scopes)


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)  # of the call in hand, once it was let in


class TokenChecker:
    """Checks signature, issuer, audience and times."""

    def __init__(self, keys: Keys, *, issuer: str, audience: str, leeway: float) -> None:
        """`leeway`: seconds that clocks may differ."""
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway

    async def caller(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Who calls. Raises Unauthenticated; Unavailable while there are no keys to check by."""
        token = _token(metadata)
        try:
            key = await self._keys.find(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise jwt.InvalidKeyError("the key set has no such key")
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": _REQUIRED},
            )
            return _caller(claims)
        except jwt.ExpiredSignatureError:
            raise Unauthenticated("the token has expired; sign in again for a new one", reason="TOKEN_EXPIRED") from None
        except jwt.PyJWTError as error:
            log.info("token refused", problem=type(error).__name__)
            raise _invalid() from None


def _token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    given = [value for key, value in metadata if key == AUTHORIZATION]
    if not given:
        raise Unauthenticated("sign in: the call needs `authorization: Bearer <token>`", reason="TOKEN_MISSING")
    scheme, _, token = given[0].partition(" ") if isinstance(given[0], str) else ("", "", "")
    if len(given) > 1 or scheme.lower() != "bearer" or not 0 < len(token) <= _LONGEST:
        raise _invalid()
    return token


def _caller(claims: dict[str, Any]) -> Caller:
    scope, client_id = claims.get("scope", ""), claims.get("client_id", "")
    if not claims["sub"] or not isinstance(scope, str) or not isinstance(client_id, str):
        raise jwt.InvalidTokenError("sub, scope and client_id are texts")
    return Caller(claims["sub"], frozenset(scope.split()), client_id)


def _invalid() -> Unauthenticated:
    return Unauthenticated("the token is not valid here; sign in again for a new one", reason="TOKEN_INVALID")
