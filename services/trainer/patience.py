"""Waiting for a part of the system that is away: retries with growing pauses, for a bounded time, then a sentence that names it.

Only what may pass by itself is waited for (UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED, a Redis that is away); any other
error is raised at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from redis.exceptions import RedisError

from langptune.errors import DeadlineExceeded, LangPTuneError, ResourceExhausted, Unavailable
from langptune.state import typed_redis_error

Answer = TypeVar("Answer")
log = structlog.get_logger(__name__)

_PASSING = (Unavailable, ResourceExhausted, DeadlineExceeded)
_LONGEST_PAUSE = 5.0  # seconds


async def patiently(what: str, seconds: float, call: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer of `call`, tried again for up to `seconds`; `what` names the other side. Raises Unavailable after that."""
    give_up, pause = time.monotonic() + seconds, 0.1
    while True:
        try:
            return await call()
        except (*_PASSING, RedisError) as error:
            typed = error if isinstance(error, LangPTuneError) else typed_redis_error(error)
        if not isinstance(typed, _PASSING):
            raise typed
        if time.monotonic() + pause > give_up:
            raise Unavailable(f"{what} did not answer for {seconds:g} s: {typed.message}", reason="PEER_UNAVAILABLE")
        log.warning("waiting", what=what, error=typed.message, pause=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
