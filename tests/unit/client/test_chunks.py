"""Imports in chunks: nothing lost, nothing reordered, bounded messages, progress in elements."""

import itertools
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from langptune.client import Interaction, Item, NewInteraction
from langptune.client.chunks import interaction_requests, item_requests


async def test_items_go_out_in_bounded_messages() -> None:
    """1,201 small items: 500, 500 and 201; each report comes when the next chunk is asked for."""
    told: list[int] = []
    items = [Item(f"i{number}", "a title") for number in range(1_201)]
    requests = [request async for request in item_requests(items, told.append)]
    assert [len(request.items) for request in requests] == [500, 500, 201]
    assert [item.item_id for request in requests for item in request.items] == [item.item_id for item in items]
    assert told == [500, 1_000, 1_201]


async def test_large_items_go_out_in_messages_of_two_mebibytes() -> None:
    items = [Item(f"i{number}", "a title", "x" * 100_000) for number in range(50)]
    requests = [request async for request in item_requests(items, None)]
    assert sum(len(request.items) for request in requests) == 50
    assert all(request.ByteSize() < (2 << 20) + 101_000 for request in requests)


async def test_nothing_to_import_is_no_message() -> None:
    told: list[int] = []
    assert [request async for request in item_requests([], told.append)] == []
    assert [request async for request in interaction_requests([], told.append)] == []
    assert told == [0, 0]


@given(st.lists(st.tuples(st.sampled_from(["u1", "u2"]), st.integers(0, 9)), max_size=50))
async def test_interactions_keep_their_order_and_user(pairs: list[tuple[str, int]]) -> None:
    async def source() -> AsyncIterator[tuple[str, NewInteraction]]:
        for user_id, number in pairs:
            yield user_id, NewInteraction(f"i{number}", 4.0, time_ms=number)

    requests = [request async for request in interaction_requests(source(), None)]
    sent = [(request.user_id, entry.item.item_id) for request in requests for entry in request.interactions]
    assert sent == [(user_id, f"i{number}") for user_id, number in pairs]
    assert all(before.user_id != after.user_id for before, after in itertools.pairwise(requests))


async def test_of_an_interaction_only_the_items_id_is_sent() -> None:
    whole = Interaction(Item("i1", "a title", "words"), 4.0, "fine", 1_500)
    requests = [request async for request in interaction_requests([("u1", whole)], None)]
    (entry,) = requests[0].interactions
    assert (entry.item.item_id, entry.item.title, entry.rating, entry.review) == ("i1", "", 4.0, "fine")
    assert entry.time.ToMilliseconds() == 1_500
