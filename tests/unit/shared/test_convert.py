"""Every rule of common.proto, from the caller's side: the error names the field, and a good value comes through unchanged."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langptune.convert import (
    check_range,
    check_text,
    history_from_proto,
    interaction_from_proto,
    interaction_to_proto,
    item_from_proto,
    item_to_proto,
)
from langptune.domain import Interaction, Item
from langptune.errors import InvalidArgument
from langptune.v1 import common_pb2

plain_text = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=50)
items = st.builds(
    Item,
    item_id=st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True).filter(lambda text: text.strip(".")),
    title=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=50),
    description=plain_text,
    categories=st.lists(plain_text, max_size=3).map(tuple),
    average_rating=st.none() | st.floats(0, 5),
    price=st.none() | st.floats(0, 1e6),
)


@given(item=items, rating=st.floats(0, 5), review=plain_text, time_ms=st.integers(0, 2**41))
def test_values_survive_the_wire(item: Item, rating: float, review: str, time_ms: int) -> None:
    assert item_from_proto(common_pb2.Item.FromString(item_to_proto(item).SerializeToString())) == item
    interaction = Interaction(item, rating, review, time_ms)
    assert interaction_from_proto(interaction_to_proto(interaction)) == interaction


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"item_id": ""}, "item.item_id"),
        ({"item_id": "a b"}, "item.item_id"),
        ({"item_id": "x" * 129}, "item.item_id"),
        ({"title": ""}, "item.title"),
        ({"title": "x" * 1_001}, "item.title"),
        ({"description": "x" * 1_000_000}, "item.description"),
        ({"description": "bell \x07"}, "item.description"),
        ({"categories": ["ok", "\x00"]}, "item.categories[1]"),
        ({"average_rating": math.nan}, "item.average_rating"),
        ({"average_rating": 5.1}, "item.average_rating"),
        ({"price": -0.01}, "item.price"),
        ({"price": math.inf}, "item.price"),
    ],
)
def test_a_bad_item_names_its_field(change: dict[str, object], field: str) -> None:
    message = common_pb2.Item(**{"item_id": "a", "title": "t", **change})  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument) as caught:
        item_from_proto(message)
    assert caught.value.field == field


def test_a_bad_element_is_named_by_its_place() -> None:
    good = common_pb2.Interaction(item=common_pb2.Item(item_id="a", title="t"), rating=3)
    bad = common_pb2.Interaction(item=common_pb2.Item(item_id="a", title="t"), rating=math.nan)
    with pytest.raises(InvalidArgument) as caught:
        history_from_proto(common_pb2.History(interactions=[good, bad]))
    assert caught.value.field == "history.interactions[1].rating"


def test_an_empty_history_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="1 to 1,000"):
        history_from_proto(common_pb2.History())


def test_zero_means_the_default_where_there_is_one() -> None:
    assert check_range("k", 0, 1, 100, default=10) == 10
    with pytest.raises(InvalidArgument, match="1 to 100"):
        check_range("k", 10**9, 1, 100, default=10)
    with pytest.raises(InvalidArgument):
        check_range("k", 0, 1, 100)


def test_line_breaks_and_tabs_are_plain_text() -> None:
    assert check_text("text", "a\tb\r\nc") == "a\tb\r\nc"
