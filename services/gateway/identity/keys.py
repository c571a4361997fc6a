"""The keys that tokens are checked by: one shared secret in development, a published key set (JWKS) in production.

The algorithm belongs to the key and never comes from the token, so a public key cannot be used as a shared secret and `none` is
no algorithm at all. A key set is read again when it is old or a token names a key that it lacks, but never more often than
every COOLDOWN seconds, whatever tokens are sent; while its source fails, the keys last read go on for LONGEST_STALE seconds.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jwt
import structlog

from langptune.errors import FailedPrecondition, Unavailable

log = structlog.get_logger(__name__)

LIFETIME = 300.0  # seconds after which a key set is read again
COOLDOWN = 30.0  # seconds between two readings, at least
LONGEST_STALE = 86_400.0  # seconds
_FETCH_TIMEOUT = 5.0  # seconds
_ALGORITHMS = {"RS256", "PS256", "ES256", "ES384", "EdDSA"}  # of key sets: public keys only
_LEAST_RSA_BITS = 2_048


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key, and the one algorithm that it is for."""

    key: Any  # what PyJWT verifies with
    algorithm: str


class Keys(Protocol):
    """Where the key of a token is looked up."""

    async def find(self, key_id: str | None) -> VerifyingKey | None:
        """The key that a token's `kid` names; None: there is none. Raises Unavailable while no key is known at all."""

    async def load(self) -> None:
        """Called once before the first `find`. Raises FailedPrecondition where an operator must mend something."""


class SharedSecret:
    """HS256 with one secret, for development."""

    def __init__(self, secret: str) -> None:
        self._key = VerifyingKey(secret, "HS256")

    async def find(self, key_id: str | None) -> VerifyingKey | None:
        """The secret, whatever the token calls it."""
        return self._key

    async def load(self) -> None:
        """Nothing to do."""


class KeySet:
    """A JSON Web Key Set (RFC 7517) from an https URL or a file."""

    def __init__(self, source: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._remote = source.startswith(("https://", "http://"))
        self._clock = clock
        self._keys: dict[str | None, VerifyingKey] = {}  # by key id; None: the only key
        self._read_at = self._tried_at = -LONGEST_STALE
        self._reading: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Read it for the first time. A file that cannot be read is refused; a server may come up later."""
        await self._refresh()
        if not self._keys and not self._remote:
            raise FailedPrecondition(f"no key of use in {self._source}; it must be a JSON Web Key Set", reason="NO_KEYS")

    async def find(self, key_id: str | None) -> VerifyingKey | None:
        """See `Keys.find`. Waits for a reading only where there is no answer without."""
        if key_id not in self._keys or self._age > LONGEST_STALE:
            if self._reading is not None or self._rested:
                await self._refresh()
        elif self._age > LIFETIME and self._reading is None and self._rested:
            self._start_reading()
        if not self._keys or self._age > LONGEST_STALE:
            raise Unavailable("the keys that tokens are checked by cannot be read; try again soon", reason="KEYS_UNAVAILABLE")
        return self._keys.get(key_id)

    @property
    def _age(self) -> float:
        return self._clock() - self._read_at

    @property
    def _rested(self) -> bool:
        return self._clock() - self._tried_at >= COOLDOWN

    def _start_reading(self) -> asyncio.Task[None]:
        if self._reading is None:
            self._tried_at = self._clock()
            self._reading = asyncio.create_task(self._read())
        return self._reading

    async def _refresh(self) -> None:
        await asyncio.shield(self._start_reading())  # others may wait for the same reading

    async def _read(self) -> None:
        try:
            keys = _keys_of(await asyncio.to_thread(self._fetch))
        except (jwt.PyJWTError, ValueError, OSError) as error:
            log.warning("the key set cannot be read", source=self._source, error=str(error))
        else:
            log.info("keys of tokens", source=self._source, key_ids=sorted(str(key) for key in keys if key is not None))
            self._keys, self._read_at = keys, self._clock()
        finally:
            self._reading = None

    def _fetch(self) -> Any:
        if self._remote:
            return jwt.PyJWKClient(self._source, cache_jwk_set=False, timeout=_FETCH_TIMEOUT).fetch_data()
        return json.loads(Path(self._source).read_bytes())


def _keys_of(document: Any) -> dict[str | None, VerifyingKey]:
    """The usable keys by id; the only one also without. Raises PyJWTError or ValueError for no key set, or one without any."""
    if not isinstance(document, dict):
        raise ValueError("is no JSON object")
    keys: dict[str | None, VerifyingKey] = {}
    for jwk in jwt.PyJWKSet.from_dict(document):
        if jwk.algorithm_name not in _ALGORITHMS or jwk.public_key_use not in (None, "sig"):
            continue
        if jwk.key_type == "RSA" and jwk.key.key_size < _LEAST_RSA_BITS:
            continue
        keys[jwk.key_id] = VerifyingKey(jwk.key, jwk.algorithm_name)
    if not keys:
        raise ValueError(f"has no public key for {', '.join(sorted(_ALGORITHMS))}")
    if len(keys) == 1:
        keys[None] = next(iter(keys.values()))
    else:
        keys.pop(None, None)  # which of several a token means must be said
    return keys
