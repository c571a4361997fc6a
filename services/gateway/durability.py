"""Whether an acknowledged write survives the crash of Redis: only with `appendonly yes` and `appendfsync always`.

The Redis that `langptune up` starts runs so. Of another one we read the configuration at start and warn; we change nothing.
"""

from __future__ import annotations

import redis.asyncio as redis
import structlog
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

_WANTED = {"appendonly": "yes", "appendfsync": "always"}


async def warn_if_weak(client: redis.Redis) -> list[str]:
    """Log a warning for each setting of Redis that could lose an acknowledged edit, and return them ("appendfsync everysec")."""
    try:
        weak = [
            f"{name} {found}"
            for name, wanted in _WANTED.items()
            if (found := _text((await client.config_get(name)).get(name))) != wanted
        ]
    except RedisError as error:
        log.warning("redis durability not known", error=str(error))
        return []
    for setting in weak:
        log.warning("redis may lose acknowledged writes in a crash", found=setting, wanted=_WANTED)
    return weak


def _text(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
