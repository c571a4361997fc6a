"""What users never want, on a real Redis: idempotent, bounded, and one list with that of a request."""

import asyncio

import pytest
import redis.asyncio as redis

from langptune.errors import FailedPrecondition, InvalidArgument
from services.gateway.recommendations.avoid import MAX_PHRASES, AvoidPhrases, together


@pytest.fixture
def avoid(client: redis.Redis) -> AvoidPhrases:
    return AvoidPhrases(client)


async def test_adding_and_removing_are_idempotent_and_case_does_not_count(avoid: AvoidPhrases) -> None:
    assert await avoid.add("u1", "  loud \n clowns ") == ["loud clowns"]
    assert await avoid.add("u1", "Loud CLOWNS") == ["loud clowns"], "as it was first written"
    assert await avoid.add("u1", "Boats") == ["Boats", "loud clowns"]
    assert await avoid.find("u2") == []
    for _ in range(2):
        assert await avoid.remove("u1", "LOUD clowns") == ["Boats"]
    await avoid.forget("u1")
    assert await avoid.find("u1") == []


async def test_of_many_at_once_no_more_than_the_most_are_kept(avoid: AvoidPhrases) -> None:
    outcomes = await asyncio.gather(*(avoid.add("u1", f"phrase {at}") for at in range(MAX_PHRASES + 5)), return_exceptions=True)
    assert sum(isinstance(outcome, FailedPrecondition) for outcome in outcomes) == 5
    kept = await avoid.find("u1")
    assert len(kept) == MAX_PHRASES
    assert await avoid.add("u1", kept[0]) == kept, "one that is there is no further one"


@pytest.mark.parametrize("phrase", ["", " \n", "x" * 201, "bell \x07"])
async def test_what_is_no_phrase_is_refused(avoid: AvoidPhrases, phrase: str) -> None:
    with pytest.raises(InvalidArgument, match="phrase"):
        await avoid.add("u1", phrase)
    with pytest.raises(InvalidArgument, match="user_id"):
        await avoid.add("no user", "clowns")


def test_the_phrases_of_a_request_join_those_of_the_user() -> None:
    assert together(["Clowns"], ["clowns", " boats "]) == ["Clowns", "boats"]
    with pytest.raises(InvalidArgument, match=r"avoid\[1\]"):
        together([], ["boats", ""])
    with pytest.raises(InvalidArgument, match="makes 21 phrases"):
        together([str(at) for at in range(20)], ["clowns"])
