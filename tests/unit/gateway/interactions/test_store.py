"""Histories on a real Redis: ordered, idempotent, capped, and never at odds with popularity."""

import time
from collections import Counter

import pytest
import redis.asyncio as redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langptune.errors import InvalidArgument
from services.gateway.interactions.store import Entry, Interactions, Outcome, checked_entry


def entry(item_id: str, time_ms: int, rating: float = 4.0) -> Entry:
    return Entry(item_id, rating, f"of {item_id}", time_ms)


async def test_a_history_is_ordered_by_time_not_by_arrival(interactions: Interactions) -> None:
    outcome = await interactions.record({"u1": [entry("b", 200), entry("a", 100), entry("c", 300)]})
    assert outcome == {"u1": Outcome(3, 0, 3)}
    assert [each.item_id for each in await interactions.latest("u1", 10)] == ["a", "b", "c"]
    assert [each.item_id for each in await interactions.latest("u1", 2)] == ["b", "c"]
    assert await interactions.latest("u2", 10) == []


async def test_as_of_a_moment_nothing_later_is_there(interactions: Interactions) -> None:
    await interactions.record({"u1": [entry("c", 300), entry("a", 100), entry("b", 200)]})
    for moment, expected in ((99, []), (100, ["a"]), (299, ["a", "b"]), (300, ["a", "b", "c"])):
        assert [each.item_id for each in await interactions.latest("u1", 10, moment)] == expected
    assert [each.item_id for each in await interactions.latest("u1", 1, 299)] == ["b"]
    named = await interactions.named("u1", ["300 c", "100 x", "100 a"])
    assert [each.item_id for each in named] == ["c", "a"], "what is not kept is left out"


async def test_the_same_item_and_time_counts_once_and_keeps_what_was_said_first(
    interactions: Interactions, client: redis.Redis
) -> None:
    await interactions.record({"u1": [entry("a", 100, 5.0)]})
    outcome = await interactions.record({"u1": [entry("a", 100, 1.0), entry("a", 101), entry("a", 101)]})
    assert outcome == {"u1": Outcome(1, 2, 2)}
    assert [(each.time_ms, each.rating) for each in await interactions.latest("u1", 9)] == [(100, 5.0), (101, 4.0)]
    assert await interactions.item_ids("u1").by(client) == ["a"]


async def test_beyond_the_cap_the_oldest_go(interactions: Interactions, client: redis.Redis) -> None:
    """The cap is 4: of a to f the newest four stay, and z, older than all of them, is not taken."""
    await interactions.record({"u1": [entry(item, 100 + at) for at, item in enumerate("abcdef")]})
    assert [each.item_id for each in await interactions.latest("u1", 9)] == ["c", "d", "e", "f"]
    assert sorted(await interactions.item_ids("u1").by(client)) == ["c", "d", "e", "f"]
    assert await interactions.record({"u1": [entry("z", 1)]}) == {"u1": Outcome(0, 1, 4)}
    assert {item for item, _ in await interactions.popular(9)} == {"c", "d", "e", "f"}


async def test_popularity_is_the_share_of_users(interactions: Interactions) -> None:
    """Of three users all chose a, and one of them twice; two chose b."""
    histories = {"u1": [entry("a", 1), entry("a", 2), entry("b", 3)], "u2": [entry("a", 1), entry("b", 1)], "u3": [entry("a", 9)]}
    await interactions.record(histories)
    assert await interactions.popular(9) == [("a", 1.0), ("b", 2 / 3)]
    assert await interactions.popular(1) == [("a", 1.0)]


async def test_pages_are_newest_first_and_hold_through_new_entries(interactions: Interactions) -> None:
    await interactions.record({"u1": [entry("a", 100), entry("b", 100), entry("c", 100)]})
    page, token, total = await interactions.page("u1", 2, "")
    assert total == 3
    await interactions.record({"u1": [entry("d", 400)]})
    rest, end, total = await interactions.page("u1", 2, token)
    assert [each.item_id for each in page + rest] == ["c", "b", "a"]
    assert (end, total) == ("", 4)
    assert await interactions.page("nobody", 0, "") == ([], "", 0)
    for bad in ("!", "eA=="):
        with pytest.raises(InvalidArgument, match="page_token"):
            await interactions.page("u1", 2, bad)
    with pytest.raises(InvalidArgument, match="page_size"):
        await interactions.page("u1", 1_001, "")


NOW = time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (("", 4.0, "", 1), "item.item_id"),
        (("a b", 4.0, "", 1), "item.item_id"),
        (("a", float("nan"), "", 1), "rating"),
        (("a", float("inf"), "", 1), "rating"),
        (("a", -0.1, "", 1), "rating"),
        (("a", 5.1, "", 1), "rating"),
        (("a", 4.0, "\x00", 1), "review"),
        (("a", 4.0, "x" * (1 << 20), 1), "review"),
        (("a", 4.0, "", -1), "time"),
        (("a", 4.0, "", NOW + 2 * 86_400_000), "time"),
    ],
)
def test_what_is_no_interaction_is_refused_by_field(values: tuple[str, float, str, int], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        checked_entry(*values, field="interactions[3].")
    assert caught.value.field == f"interactions[3].{field}"


def test_no_time_is_now() -> None:
    assert abs(checked_entry("a", 4.0, "", None).time_ms - time.time_ns() // 1_000_000) < 5_000


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.tuples(st.sampled_from("uvw"), st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), min_size=1))
    )
)
async def test_history_and_popularity_agree_whatever_is_recorded(
    client: redis.Redis, batches: list[tuple[str, list[tuple[str, int]]]]
) -> None:
    """What remains is the newest four of all distinct (time, item) pairs that were let in, and popularity counts just those."""
    await client.flushall()
    interactions = Interactions(client, history_kept=4)
    model: dict[str, set[tuple[int, str]]] = {}
    for user, batch in batches:
        recorded = 0
        held = model.setdefault(user, set())
        for item, moment in batch:
            before = set(held)
            held.add((moment, item))
            if len(held) > 4:
                held.remove(min(held))
            recorded += held != before
        outcome = (await interactions.record({user: [entry(item, moment) for item, moment in batch]}))[user]
        assert outcome == Outcome(recorded, len(batch) - recorded, len(held))
    for user, held in model.items():
        assert [(each.time_ms, each.item_id) for each in await interactions.latest(user, 9)] == sorted(held)
    counts = Counter(item for held in model.values() for item in {item for _, item in held})
    assert dict(await interactions.popular(9)) == {item: count / len(model) for item, count in counts.items()}
