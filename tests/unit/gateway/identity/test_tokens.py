"""Tokens: who gets in, by which keys, and how often a key set is fetched (from a real HTTP server) or a file read."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from langptune.errors import FailedPrecondition, LangPTuneError, Unauthenticated, Unavailable
from langptune.identity import DEVELOPMENT_SECRET, Scope, mint
from services.gateway.identity.keys import COOLDOWN, LIFETIME, LONGEST_STALE, Keys, KeySet, SharedSecret
from services.gateway.identity.tokens import Caller, TokenChecker

SECRET = SharedSecret(DEVELOPMENT_SECRET)
ELLIPTIC, EDWARDS = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65_537, 2_048)


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Publisher:
    """A key set on HTTP, and how often it was asked for."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.fetches = 0
        self.broken = False
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                publisher.fetches += 1
                self.send_response(500 if publisher.broken else 200)
                self.end_headers()
                self.wfile.write(json.dumps({"keys": publisher.keys}).encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/jwks.json"


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher()
    thread = threading.Thread(target=publisher.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield publisher
    publisher.server.shutdown()
    publisher.server.server_close()
    thread.join()


def _jwk(key: Any, key_id: str | None, **more: str) -> dict[str, Any]:
    algorithms: dict[type, Any] = {
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
    }
    [kind] = [algorithm for base, algorithm in algorithms.items() if isinstance(key, base)]
    return {**kind.to_jwk(key.public_key(), as_dict=True), **({"kid": key_id} if key_id else {}), **more}


def _claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "sub": "u1",
        "iss": "langptune",
        "aud": "langptune",
        "iat": now,
        "exp": now + 86_400,
        **changed,
    }  # made when tests are collected
    return {name: value for name, value in claims.items() if value is not None}


def _signed(key: Any = DEVELOPMENT_SECRET, algorithm: str = "HS256", key_id: str | None = None, **changed: Any) -> str:
    return jwt.encode(_claims(**changed), key, algorithm=algorithm, headers={"kid": key_id} if key_id else None)


def _raw(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    """A token as no library would make it."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = hmac.new(secret, b".".join(parts), hashlib.sha256).digest() if secret else b""
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


async def _caller(keys: Keys, *authorization: str) -> Caller:
    checker = TokenChecker(keys, issuer="langptune", audience="langptune", leeway=30)
    return await checker.caller([("x-request-id", "12345678"), *(("authorization", given) for given in authorization)])


async def _refused(keys: Keys, *authorization: str) -> LangPTuneError:
    with pytest.raises(LangPTuneError) as caught:
        await _caller(keys, *authorization)
    return caught.value


async def test_a_development_token_says_who_calls() -> None:
    caller = await _caller(SECRET, f"Bearer {mint('u7', DEVELOPMENT_SECRET, scopes=[Scope.TRAINING, Scope.USERS])}")
    assert caller == Caller("u7", frozenset({"training", "users"}))
    assert caller.has(Scope.TRAINING)
    assert not caller.has(Scope.RELEASES)


async def test_an_operator_has_every_scope_but_that_of_users_data() -> None:
    caller = Caller("op", frozenset({"operator"}))
    assert [scope for scope in Scope if not caller.has(scope)] == [Scope.USERS]


async def test_no_token_and_a_token_of_another_time_say_what_to_do() -> None:
    missing = await _refused(SECRET)
    assert (type(missing), missing.reason) == (Unauthenticated, "TOKEN_MISSING")
    expired = await _refused(SECRET, f"Bearer {_signed(exp=int(time.time()) - 31)}")
    assert (type(expired), expired.reason) == (Unauthenticated, "TOKEN_EXPIRED")
    assert (await _caller(SECRET, f"Bearer {_signed(exp=int(time.time()) - 5)}")).subject == "u1"  # within the leeway
    assert (await _caller(SECRET, f"bearer {_signed(nbf=int(time.time()) + 5)}")).subject == "u1"


REFUSED = {
    "another secret": _signed("another secret, and just as long as it"),
    "another audience": _signed(aud="somebody-else"),
    "another issuer": _signed(iss="somebody-else"),
    "not yet": _signed(nbf=int(time.time()) + 3_600),
    "no subject": _signed(sub=None),
    "an empty subject": _signed(sub=""),
    "no end": _signed(exp=None),
    "no audience": _signed(aud=None),
    "no issuer": _signed(iss=None),
    "scope is no text": _signed(scope=["operator"]),
    "another algorithm": _signed(algorithm="HS512", key=DEVELOPMENT_SECRET * 2),
    "alg none": _raw({"alg": "none", "typ": "JWT"}, _claims(), b""),
    "no alg": _raw({"typ": "JWT"}, _claims(), DEVELOPMENT_SECRET.encode()),
    "unknown crit": _raw({"alg": "HS256", "crit": ["x"], "x": 1}, _claims(), DEVELOPMENT_SECRET.encode()),
    "kid is no text": _raw({"alg": "HS256", "kid": 7}, _claims(), DEVELOPMENT_SECRET.encode()),
    "not a token": "abc",
    "empty": "",
    "too long": "x" * 9_000,
}


@pytest.mark.parametrize("token", REFUSED.values(), ids=REFUSED.keys())
async def test_what_does_not_hold_is_refused_in_one_and_the_same_way(token: str) -> None:
    error = await _refused(SECRET, f"Bearer {token}")
    assert (type(error), error.reason) == (Unauthenticated, "TOKEN_INVALID")
    assert error.message == "the token is not valid here; sign in again for a new one"


async def test_two_tokens_and_other_schemes_are_refused() -> None:
    good = _signed()
    for authorization in ([f"Bearer {good}", f"Bearer {good}"], [f"Basic {good}"], [good]):
        assert (await _refused(SECRET, *authorization)).reason == "TOKEN_INVALID"


@pytest.mark.parametrize(
    ("key", "algorithm"), [(ELLIPTIC, "ES256"), (EDWARDS, "EdDSA"), (RSA, "RS256")], ids=["ES256", "EdDSA", "RS256"]
)
async def test_a_key_set_in_a_file(tmp_path: Path, key: Any, algorithm: str) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [_jwk(key, "k1"), {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}, {"kty": "new"}]}))
    keys = KeySet(str(file))
    await keys.load()
    assert (await _caller(keys, f"Bearer {_signed(key, algorithm, 'k1')}")).subject == "u1"
    assert (await _caller(keys, f"Bearer {_signed(key, algorithm)}")).subject == "u1"  # the only one may go unnamed
    for forged in (
        _signed(key, algorithm, "k2"),
        _signed(DEVELOPMENT_SECRET, "HS256", "k1"),
        _signed("secret" * 8, key_id="shared"),
    ):
        assert (await _refused(keys, f"Bearer {forged}")).reason == "TOKEN_INVALID"


async def test_a_public_key_is_no_shared_secret(tmp_path: Path) -> None:
    """Algorithm confusion: HS256 with the bytes of the RSA public key, which everybody has."""
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [_jwk(RSA, "k1")]}))
    keys = KeySet(str(file))
    await keys.load()
    public = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for header in ({"alg": "HS256", "kid": "k1"}, {"alg": "HS256"}, {"alg": "RS256", "kid": "k1"}):
        assert (await _refused(keys, f"Bearer {_raw(header, _claims(), public)}")).reason == "TOKEN_INVALID"


async def test_weak_and_foreign_keys_are_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    weak = rsa.generate_private_key(65_537, 1_024)
    for keys in ([_jwk(weak, "k1")], [_jwk(RSA, "k1", use="enc")], [{"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}], []):
        file.write_text(json.dumps({"keys": keys}))
        with pytest.raises(FailedPrecondition, match="no key of use"):
            await KeySet(str(file)).load()
    with pytest.raises(FailedPrecondition, match="no key of use"):
        await KeySet(str(tmp_path / "none.json")).load()


async def test_keys_are_rotated_and_a_withdrawn_key_no_longer_counts(publisher: Publisher) -> None:
    clock = Clock()
    publisher.keys = [_jwk(ELLIPTIC, "old")]
    keys = KeySet(publisher.url, clock)
    await keys.load()
    old, new = _signed(ELLIPTIC, "ES256", "old"), _signed(EDWARDS, "EdDSA", "new")
    assert (await _caller(keys, f"Bearer {old}")).subject == "u1"
    publisher.keys = [_jwk(EDWARDS, "new")]
    clock.now += COOLDOWN
    assert (await _caller(keys, f"Bearer {new}")).subject == "u1"
    assert (await _refused(keys, f"Bearer {old}")).reason == "TOKEN_INVALID"


async def test_unknown_keys_do_not_make_the_gateway_fetch_again_and_again(publisher: Publisher) -> None:
    clock = Clock()
    publisher.keys = [_jwk(ELLIPTIC, "k1")]
    keys = KeySet(publisher.url, clock)
    await keys.load()
    for number in range(20):
        assert (await _refused(keys, f"Bearer {_signed(EDWARDS, 'EdDSA', f'k{number + 2}')}")).reason == "TOKEN_INVALID"
    assert publisher.fetches == 1
    clock.now += COOLDOWN
    for number in range(20):
        assert (await _refused(keys, f"Bearer {_signed(EDWARDS, 'EdDSA', f'k{number + 2}')}")).reason == "TOKEN_INVALID"
    assert publisher.fetches == 2


async def test_known_keys_outlive_a_failing_publisher_for_a_day(publisher: Publisher) -> None:
    clock = Clock()
    publisher.keys = [_jwk(ELLIPTIC, "k1")]
    keys = KeySet(publisher.url, clock)
    await keys.load()
    publisher.broken = True
    token = f"Bearer {_signed(ELLIPTIC, 'ES256', 'k1')}"
    clock.now += LIFETIME + 1
    assert (await _caller(keys, token)).subject == "u1"
    clock.now += LONGEST_STALE
    assert isinstance(await _refused(keys, token), Unavailable)
    publisher.broken = False
    clock.now += COOLDOWN
    assert (await _caller(keys, token)).subject == "u1"


async def test_a_publisher_that_is_not_there_yet(publisher: Publisher) -> None:
    clock = Clock()
    keys = KeySet(publisher.url, clock)  # it has no keys so far
    await keys.load()
    token = f"Bearer {_signed(ELLIPTIC, 'ES256', 'k1')}"
    assert isinstance(await _refused(keys, token), Unavailable)
    publisher.keys = [_jwk(ELLIPTIC, "k1")]
    clock.now += COOLDOWN
    assert (await _caller(keys, token)).subject == "u1"
