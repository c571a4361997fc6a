"""Questions that come while others are being answered wait, and are answered together.

A lone question starts at once: nothing waits on a timer. For engines whose work on several costs less than on one after another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

QuestionT = TypeVar("QuestionT")
AnswerT = TypeVar("AnswerT")


class Rounds(Generic[QuestionT, AnswerT]):
    """`answer`, a blocking function of several questions, for callers that have one each."""

    def __init__(self, answer: Callable[[Sequence[QuestionT]], Sequence[AnswerT]], *, at_once: int, size: int) -> None:
        """At most `at_once` rounds run at a time, each on a thread, each of at most `size` questions."""
        self._answer = answer
        self._free = at_once
        self._size = size
        self._waiting: deque[tuple[QuestionT, asyncio.Future[AnswerT]]] = deque()

    async def __call__(self, question: QuestionT) -> AnswerT:
        """The answer. Raises what `answer` raised for the round."""
        future: asyncio.Future[AnswerT] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        self._begin()
        return await future

    def _begin(self) -> None:
        """Start a round of what waits, if there is anything and a thread to spare."""
        while self._free and self._waiting:
            taken = [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]
            questions = [question for question, future in taken if not future.done()]  # the others' callers have gone
            futures = [future for _, future in taken if not future.done()]
            if questions:
                self._free -= 1
                running = asyncio.get_running_loop().run_in_executor(None, self._answer, questions)
                running.add_done_callback(partial(self._end, futures))

    def _end(self, futures: Sequence[asyncio.Future[AnswerT]], done: asyncio.Future[Sequence[AnswerT]]) -> None:
        self._free += 1
        self._begin()
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        for place, future in enumerate(futures):
            if future.done():
                continue
            if error is None:
                future.set_result(done.result()[place])
            else:
                future.set_exception(error)
