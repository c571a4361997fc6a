"""Who calls: the scopes and claims of tokens, and the minting of tokens for development.

A token is a JWT. `sub` is the user's id, `scope` the scopes separated by blanks and `client_id` the program that it was given to
(RFC 9068). What each RPC asks for is the gateway's table (services/gateway/identity/policy.py); tokens are checked beside it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from enum import StrEnum

import jwt

ISSUER = "langptune"  # of development tokens; the default of what the gateway expects
AUDIENCE = "langptune"
LEAST_SECRET = 32  # bytes of a shared secret
DEVELOPMENT_SECRET = "langptune-development-secret-known-to-everybody"  # the gateway takes it on a loopback address only


class Scope(StrEnum):
    """What a token may do beyond its own user's data. OPERATOR is all of the others but USERS: it does not read profiles."""

    OPERATOR = "operator"
    TRAINING = "training"  # start, watch, cancel and resume training jobs
    RELEASES = "releases"  # read, publish, roll back and prune releases
    CATALOGUE = "catalogue"  # import items
    IMPORTS = "imports"  # import histories of many users
    USERS = "users"  # read and write any user's data: for a program that serves people who signed in to it


def mint(
    user_id: str,
    secret: str,
    *,
    scopes: Iterable[str] = (),
    seconds: float = 12 * 3_600,
    issuer: str = ISSUER,
    audience: str = AUDIENCE,
) -> str:
    """A token for `user_id` that holds for `seconds`, signed with `secret` (HS256, 32 bytes or more)."""
    now = int(time.time())
    claims = {"sub": user_id, "iss": issuer, "aud": audience, "iat": now, "exp": now + int(seconds), "scope": " ".join(scopes)}
    return jwt.encode(claims, secret, algorithm="HS256")
