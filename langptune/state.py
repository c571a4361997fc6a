"""How a service opens Redis, asks it several things at once, and what a failing Redis looks like to callers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from langptune.errors import Internal, LangPTuneError, ResourceExhausted, Unavailable
from langptune.settings import RedisSettings

_CONNECTIONS = 100  # of a process
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """A question to Redis, and what its answer means: what stores say where several of them are asked at once."""

    command: tuple[str, ...]
    meaning: Callable[[Any], T]

    async def by(self, client: redis.Redis) -> T:
        """The answer."""
        answer: Any = await client.execute_command(*self.command)  # type: ignore[no-untyped-call]  # redis gives it no types
        return self.meaning(answer)


async def read_together(client: redis.Redis, *reads: Read[Any]) -> list[Any]:
    """What each of `reads` would answer, in one round trip."""
    async with client.pipeline(transaction=False) as pipe:
        for read in reads:
            pipe.execute_command(*read.command)
        answers = await pipe.execute()
    return [read.meaning(answer) for read, answer in zip(reads, answers, strict=True)]


def open_redis(settings: RedisSettings) -> redis.Redis:
    """A client with deadlines and two bounded retries; it connects on first use and answers in bytes.

    Of more than _CONNECTIONS commands at once some wait for a connection, as long as a command may take.
    """
    pool = redis.BlockingConnectionPool.from_url(
        settings.redis_url.get_secret_value(),
        max_connections=_CONNECTIONS,
        timeout=settings.redis_timeout,
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=2),
        health_check_interval=30,
    )
    return redis.Redis.from_pool(pool)


def typed_redis_error(error: RedisError) -> LangPTuneError:
    """What a caller of ours is told; the server's interceptor applies it to every RedisError that leaves a servicer."""
    if isinstance(error, (RedisConnectionError, RedisTimeoutError)):
        return Unavailable("the store (Redis) cannot be reached", reason="STORE_UNAVAILABLE")
    if isinstance(error, (OutOfMemoryError, ReadOnlyError)) or (isinstance(error, ResponseError) and "MISCONF" in str(error)):
        return ResourceExhausted("the store (Redis) cannot write: disk or memory is full", retry_after=10.0)
    return Internal("the store (Redis) refused a command; the service's log has the rest under this request id")
