"""How much one user's data and one program may be asked for: two token buckets per call in Redis, shared by all gateways.

A bucket holds a minute's worth of calls and fills steadily; a call takes its cost from both or, where one has too little, from
neither (GCRA: a key holds the moment at which its bucket will be full again, and lives no longer). Keys are hashes, not names.
While Redis does not answer, calls are let in and not counted: what costs anything needs Redis anyway and fails there.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import redis.asyncio as redis
import structlog
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from langptune.errors import ResourceExhausted
from services.gateway import metrics

log = structlog.get_logger(__name__)

_PATIENCE = 0.25  # seconds that a call may wait for its buckets
_CONNECTIONS = 8  # many at once would open too slowly on a busy machine, and their calls go uncounted
_REST = 5.0  # seconds without asking, after Redis did not answer

# KEYS: buckets. ARGV: cost, then the units a minute of each. Returns "0", or the seconds until the cost is there.
_TAKE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local wait, full = 0, {}
for at, key in ipairs(KEYS) do
  full[at] = math.max(tonumber(redis.call('GET', key) or '0'), now) + ARGV[1] * 60 / ARGV[at + 1]
  wait = math.max(wait, full[at] - 60 - now)
end
if wait == 0 then
  for at, key in ipairs(KEYS) do
    redis.call('SET', key, string.format('%.6f', full[at]), 'PX', math.ceil((full[at] - now) * 1000))
  end
end
return string.format('%.3f', wait)
"""


class Limiter:
    """Counts calls. `per_user`, `per_key`: units a minute, 0 for no limit."""

    def __init__(self, url: str, *, per_user: int, per_key: int) -> None:
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_PATIENCE,
            socket_timeout=_PATIENCE,
            socket_connect_timeout=_PATIENCE,
            retry=Retry(NoBackoff(), retries=0),
        )
        self._redis = redis.Redis.from_pool(pool)
        self._take = self._redis.register_script(_TAKE)
        self._rates = {"user": per_user, "key": per_key}
        self._resting_until = 0.0

    async def admit(self, cost: int, *, user: str, key: str) -> None:
        """Take `cost` units of `user` and of the program `key` ("": of none). Raises ResourceExhausted saying when to retry."""
        asked = {kind: name for kind, name in (("user", user), ("key", key)) if name and self._rates[kind]}
        if not asked or time.monotonic() < self._resting_until:
            return
        arguments = [min(cost, *(self._rates[kind] for kind in asked)), *(self._rates[kind] for kind in asked)]
        try:
            call: Any = self._take(keys=[_bucket(kind, name) for kind, name in asked.items()], args=arguments)
            wait = float(await asyncio.wait_for(call, _PATIENCE))
        except (RedisError, TimeoutError) as error:
            self._resting_until = time.monotonic() + _REST
            log.warning("calls are not counted", error=str(error) or type(error).__name__, seconds=_REST)
            return
        if wait > 0:
            metrics.LIMITED.inc()
            raise ResourceExhausted(f"too many calls; go on in {wait:.1f} s", retry_after=wait)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _bucket(kind: str, name: str) -> str:
    return f"langptune:limit:{kind}:{hashlib.sha256(name.encode()).hexdigest()[:32]}"
