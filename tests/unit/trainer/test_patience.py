"""Waiting for what may pass, and only for that, and not for ever."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from langptune.errors import InvalidArgument, LangPTuneError, Unavailable
from services.trainer.patience import patiently


class Answers:
    """Raises the given errors one by one, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "here"


async def test_an_outage_that_passes_is_waited_for() -> None:
    assert await patiently("x", 5.0, Answers(Unavailable("away"), RedisConnectionError("away"))) == "here"


async def test_an_outage_that_lasts_is_told_with_its_name() -> None:
    with pytest.raises(Unavailable, match=r"^the encoder did not answer for 0.3 s: away$"):
        await patiently("the encoder", 0.3, Answers(*[Unavailable("away")] * 99))


@pytest.mark.parametrize("error", [InvalidArgument("k", "is bad"), LangPTuneError("no")])
async def test_what_does_not_pass_is_raised_at_once(error: LangPTuneError) -> None:
    answers = Answers(error)
    with pytest.raises(type(error)):
        await patiently("x", 5.0, answers)
    assert answers.calls == 1
