"""That a user's data was deleted while something was made from it: a counter per user, compared when the thing is stored.

The key is a hash, not the user's id, and lives for a day, longer than any profile takes to be written.
"""

from __future__ import annotations

import hashlib
from typing import Any

import redis.asyncio as redis

_SECONDS = 86_400
# KEYS: the counter. ARGV: seconds that it lives.
_MARK = "redis.call('INCR', KEYS[1]) redis.call('EXPIRE', KEYS[1], ARGV[1])"


class Erasures:
    """Counts deletions."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._mark = client.register_script(_MARK)

    async def mark(self, user_id: str) -> None:
        """What was begun for this user up to now is not to be stored any more."""
        await self._mark(keys=[erasure_key(user_id)], args=[_SECONDS])

    async def count(self, user_id: str) -> str:
        """What to hand to the script that stores what is begun now: "" for none."""
        found: Any = await self._redis.get(erasure_key(user_id))
        return found.decode() if found else ""


def erasure_key(user_id: str) -> str:
    return f"langptune:erased:{hashlib.sha256(user_id.encode()).hexdigest()[:32]}"
