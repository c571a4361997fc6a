"""An OpenAI-compatible endpoint as a judge: what is sent, what is repeated, what each failure is told as."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.study.analysis import accuracy
from experiments.study.chat import API_KEY_VARIABLE, ChatEndpoint, ChatOptions
from experiments.study.judges import ChatJudge
from experiments.study.judging import judge_kit
from langptune.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, LangPTuneError, NotFound, Unavailable
from tests.support.chat import FakeChat, serving_chat
from tests.unit.experiments.study.world import small_kit

QUICK = ChatOptions(timeout=30.0, attempts=3, first_wait=0.001, longest_wait=0.01, max_tokens=99, seed=5)


async def test_one_message_with_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, "secret")
    fake = FakeChat(reply=str.upper)
    async with serving_chat(fake) as url, ChatEndpoint(url + "/", "some-model", QUICK) as endpoint:
        assert await endpoint.complete("a question") == "A QUESTION"
    (body,) = fake.requests
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("some-model", 0.0, 99, 5)
    assert body["messages"] == [{"role": "user", "content": "a question"}]
    assert fake.keys == ["Bearer secret"]


@pytest.mark.parametrize("fault", [429, 500, 503, 408, "drop"])
async def test_a_passing_fault_is_waited_out(fault: int | str) -> None:
    fake = FakeChat(faults=[fault, fault], retry_after="3600")  # believed for no longer than longest_wait
    async with serving_chat(fake) as url, ChatEndpoint(url, "m", QUICK) as endpoint:
        assert await endpoint.complete("q") == "hello"
    assert len(fake.requests) == 3


@pytest.mark.parametrize(
    ("fault", "error", "requests"),
    [
        (429, Unavailable, 3),
        ("drop", Unavailable, 3),
        (400, InvalidArgument, 1),
        (401, FailedPrecondition, 1),
        (404, NotFound, 1),
        ("nonsense", FailedPrecondition, 1),
    ],
)
async def test_a_lasting_fault_is_told_as_what_it_is(fault: int | str, error: type[LangPTuneError], requests: int) -> None:
    fake = FakeChat(faults=[fault] * 9)
    async with serving_chat(fake) as url, ChatEndpoint(url, "m", QUICK) as endpoint:
        with pytest.raises(error):
            await endpoint.complete("q")
    assert len(fake.requests) == requests


async def test_no_answer_in_time_and_nobody_there() -> None:
    fake = FakeChat(faults=["hang"] * 9)
    async with serving_chat(fake) as url, ChatEndpoint(url, "m", replace(QUICK, timeout=0.2)) as endpoint:
        with pytest.raises(DeadlineExceeded):
            await endpoint.complete("q")
    async with ChatEndpoint(url, "m", QUICK) as endpoint:
        with pytest.raises(Unavailable):
            await endpoint.complete("q")


async def test_a_study_through_an_endpoint_that_refuses_some_tasks(tmp_path: Path) -> None:
    """It takes the first place whenever the profile is of a user with an even number, and gives no content for the others."""
    kit = small_kit(20)

    def reply(message: str) -> str | None:
        user = int(message.split("profile of u")[1].split()[0])
        return "Justification: The first.\n\nChoice: A" if user % 2 == 0 else None

    async with serving_chat(FakeChat(reply=reply)) as url, ChatEndpoint(url, "m", QUICK) as endpoint:
        found = accuracy(await judge_kit(kit, ChatJudge(endpoint, kit.wording), tmp_path / "a.jsonl"))
    even = [task for task in kit.tasks if int(task.user_id[1:]) % 2 == 0]
    assert (found.answered, found.refused) == (30, 30)
    assert found.right == sum(task.answer == "A" for task in even)
