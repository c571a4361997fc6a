"""Questions that wait are answered together; a caller that leaves, and a round that fails, take nobody else along."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from services.decoder.index.rounds import Rounds


class Answering:
    """Doubles numbers, a round at a time, each when it is let go; fails a round that holds a negative one."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self._go = threading.Semaphore(0)

    def let_go(self, rounds: int) -> None:
        self._go.release(rounds)

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.rounds.append(list(numbers))
        assert self._go.acquire(timeout=30)
        if min(numbers) < 0:
            raise ValueError("negative")
        return [2 * number for number in numbers]


def ask(rounds: Rounds[int, int], numbers: Sequence[int]) -> list[asyncio.Task[int]]:
    async def one(number: int) -> int:
        return await rounds(number)

    return [asyncio.create_task(one(number)) for number in numbers]


async def test_the_first_goes_alone_and_those_that_come_meanwhile_together() -> None:
    answer = Answering()
    asked = ask(Rounds(answer, at_once=1, size=3), range(6))
    answer.let_go(3)
    assert await asyncio.gather(*asked) == [0, 2, 4, 6, 8, 10]
    assert answer.rounds == [[0], [1, 2, 3], [4, 5]]


async def test_as_many_rounds_at_once_as_are_allowed() -> None:
    answer = Answering()
    asked = ask(Rounds(answer, at_once=2, size=8), range(4))
    answer.let_go(3)
    assert await asyncio.gather(*asked) == [0, 2, 4, 6]
    assert sorted(answer.rounds) == [[0], [1], [2, 3]]


async def test_a_failed_round_fails_its_own_callers_only() -> None:
    answer = Answering()
    asked = ask(Rounds(answer, at_once=1, size=2), [1, 2, -3, 4])
    answer.let_go(3)
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert (found[0], found[3]) == (2, 8)
    assert [str(each) for each in found[1:3]] == ["negative", "negative"]


async def test_who_has_left_is_not_answered_for() -> None:
    answer = Answering()
    first, gone, last = ask(Rounds(answer, at_once=1, size=1), [1, 2, 3])
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    answer.let_go(2)
    assert await asyncio.gather(first, last) == [2, 6]
    assert answer.rounds == [[1], [3]]
