"""Who calls: the scopes and claims of tokens, and the minting of tokens where no identity provider does it.

A token is a JWT. `sub` is the user's id, `scope` the scopes separated by blanks and `client_id` the program that it was given to
(RFC 9068). What each RPC asks for is the gateway's table (services/gateway/identity/policy.py); tokens are checked beside it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterable
from enum import StrEnum

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

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
    key: str | EllipticCurvePrivateKey,
    *,
    scopes: Iterable[str] = (),
    seconds: float = 12 * 3_600,
    issuer: str = ISSUER,
    audience: str = AUDIENCE,
) -> str:
    """A token for `user_id` that holds for `seconds`, signed with a shared secret (HS256) or a key of `new_key` (ES256)."""
    now = int(time.time())
    claims = {"sub": user_id, "iss": issuer, "aud": audience, "iat": now, "exp": now + int(seconds), "scope": " ".join(scopes)}
    if isinstance(key, str):
        return jwt.encode(claims, key, algorithm="HS256")
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": public_jwk(key)["kid"]})


def new_key() -> EllipticCurvePrivateKey:
    """A key (P-256) to sign tokens with."""
    return ec.generate_private_key(ec.SECP256R1())


def to_pem(key: EllipticCurvePrivateKey) -> bytes:
    """The key as a file, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def from_pem(data: bytes) -> EllipticCurvePrivateKey:
    """The inverse of `to_pem`. Raises ValueError for any other file."""
    key = load_pem_private_key(data, None)
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("is no key on the curve P-256")
    return key


def public_jwk(key: EllipticCurvePrivateKey) -> dict[str, str]:
    """What the gateway checks its tokens by; the id is the key's thumbprint (RFC 7638)."""
    jwk: dict[str, str] = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    named = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(named.encode()).digest()).rstrip(b"=").decode()
    return {**{name: jwk[name] for name in ("kty", "crv", "x", "y")}, "use": "sig", "alg": "ES256", "kid": thumbprint}
