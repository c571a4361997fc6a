"""Limits on a real Redis. Buckets hold a minute's worth: at 60 a minute, 60 at once and then one a second."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio as redis

from langptune.errors import ResourceExhausted
from services.gateway.identity.limits import Limiter
from tests.support.redis import start_redis


@asynccontextmanager
async def _limiter(url: str, per_user: int = 60, per_key: int = 0) -> AsyncIterator[Limiter]:
    limiter = Limiter(url, per_user=per_user, per_key=per_key)
    yield limiter
    await limiter.close()


async def _let_in(limiter: Limiter, calls: int, cost: int = 1, user: str = "u1", key: str = "") -> int:
    async def once() -> int:
        try:
            await limiter.admit(cost, user=user, key=key)
        except ResourceExhausted:
            return 0
        return 1

    return sum(await asyncio.gather(*(once() for _ in range(calls))))


async def test_a_bucket_holds_a_minute_and_says_when_it_has_enough_again(redis_url: str) -> None:
    """At 6 a minute a unit takes 10 s. After 6 of 20 calls the bucket is empty; a call of cost 3 must wait for up to 30 s."""
    async with _limiter(redis_url, per_user=6) as limiter:
        assert await _let_in(limiter, 20) == 6
        with pytest.raises(ResourceExhausted) as caught:
            await limiter.admit(3, user="u1", key="")
        assert 20.0 < caught.value.retry_after <= 30.0
        assert await _let_in(limiter, 6, user="u2") == 6


async def test_a_bucket_fills_steadily(redis_url: str) -> None:
    """At 600 a minute a unit comes back in 0.1 s."""
    async with _limiter(redis_url, per_user=600) as limiter:
        await limiter.admit(600, user="u1", key="")
        with pytest.raises(ResourceExhausted) as caught:
            await limiter.admit(1, user="u1", key="")
        await asyncio.sleep(caught.value.retry_after + 0.01)
        await limiter.admit(1, user="u1", key="")


async def test_what_a_program_is_short_of_is_not_taken_from_the_user(redis_url: str) -> None:
    """A program at 2 a minute: of u1's 60, two are spent, and 58 are left to the user without the program."""
    async with _limiter(redis_url, per_key=2) as limiter:
        assert await _let_in(limiter, 10, key="program") == 2
        assert await _let_in(limiter, 60) in (58, 59)  # a second may have passed
        assert await _let_in(limiter, 10, user="u2", key="another") == 2


async def test_gateways_share_the_buckets_and_names_are_not_stored(redis_url: str) -> None:
    async with _limiter(redis_url, 6) as one, _limiter(redis_url, 6) as other, redis.Redis.from_url(redis_url) as client:
        assert await _let_in(one, 4, user="a-name") + await _let_in(other, 4, user="a-name") == 6
        [key] = await client.keys()
        assert b"a-name" not in key
        assert 50_000 < await client.pttl(key) <= 60_000


async def test_a_cost_beyond_the_whole_bucket_takes_all_of_it(redis_url: str) -> None:
    async with _limiter(redis_url, per_user=6) as limiter:
        assert await _let_in(limiter, 2, cost=20) == 1


async def test_without_limits_nothing_is_asked() -> None:
    async with _limiter("redis://127.0.0.1:9/0", per_user=0) as limiter:
        assert await _let_in(limiter, 100) == 100


async def test_while_redis_does_not_answer_calls_are_let_in_and_soon(tmp_path: Path) -> None:
    process, url = start_redis(tmp_path)
    async with _limiter(url, per_user=1) as limiter:
        assert await _let_in(limiter, 3) == 1
        process.send_signal(signal.SIGSTOP)  # takes connections and never answers
        try:
            assert await asyncio.wait_for(_let_in(limiter, 50), 20) == 50
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(5)
        assert await _let_in(limiter, 50) == 50
