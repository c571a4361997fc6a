"""Domain values to and from proto messages, and the checks that every service makes of what it is given.

The checks raise InvalidArgument with the path of the field as it stands in the request ("history.interactions[2].rating").
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import struct_pb2, timestamp_pb2

from langptune.domain import AttributeValue, Interaction, Item
from langptune.errors import InvalidArgument
from langptune.ranking import RankingQuality
from langptune.v1 import common_pb2

MAX_TEXT = 100_000  # characters
MAX_TITLE = 1_000  # characters
MAX_RATING = 5.0  # stars
MAX_ITEM_BYTES = 1 << 20  # of an item as a message
MAX_ATTRIBUTES = 64
MAX_ATTRIBUTE_VALUES = 100  # texts of one attribute
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # categories Cc and Cs less \t, \n, \r
_IDENTIFIER = re.compile(r"(?!\.+$)[A-Za-z0-9._:-]{1,128}")  # dots alone would be a way out of a folder
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def check_id(field: str, value: str) -> str:
    """`value` if it is an identifier. Raises InvalidArgument."""
    if not value:
        raise InvalidArgument(field, "is required")
    if not _IDENTIFIER.fullmatch(value):
        raise InvalidArgument(field, "must be 1 to 128 characters out of A-Z a-z 0-9 . _ : -")
    return value


def check_range(field: str, value: int, low: int, high: int, default: int | None = None) -> int:
    """`value` (or `default` where it is 0) if it lies in low..high. Raises InvalidArgument."""
    chosen = default if default is not None and value == 0 else value
    if not low <= chosen <= high:
        raise InvalidArgument(field, f"must be {low} to {high}, not {value}")
    return chosen


def check_text(field: str, value: str, *, low: int = 0, high: int = MAX_TEXT) -> str:
    """`value` if it is plain text of low..high characters. Raises InvalidArgument."""
    if len(value) > high:
        raise InvalidArgument(field, f"is {len(value):,} characters long; the limit is {high:,}")
    if len(value) < low:
        raise InvalidArgument(field, "is required" if low == 1 else f"must be at least {low} characters long")
    found = _CONTROL.search(value)
    if found:
        raise InvalidArgument(field, f"holds the control character U+{ord(found[0]):04X} at position {found.start()}")
    return value


def without_controls(text: str) -> str:
    """`text` less the characters that `check_text` refuses: what a model has sampled may hold any byte."""
    return _CONTROL.sub("", text)


def check_number(field: str, value: float, low: float, high: float) -> float:
    """`value` if it is finite and lies in low..high. Raises InvalidArgument."""
    if not math.isfinite(value) or not low <= value <= high:
        raise InvalidArgument(field, f"must be a number from {low:g} to {high:g}, not {value:g}")
    return value


def check_time(field: str, stamp: timestamp_pb2.Timestamp) -> int:
    """Milliseconds since 1970 of a proto timestamp within the years 1 to 9999. Raises InvalidArgument."""
    try:
        return int(stamp.ToMilliseconds())
    except ValueError as error:
        raise InvalidArgument(field, f"is no time: {error}") from None


def item_from_proto(message: common_pb2.Item, field: str = "item") -> Item:
    """Raises InvalidArgument for what the comments in common.proto rule out."""
    item = Item(
        item_id=check_id(f"{field}.item_id", message.item_id),
        title=check_text(f"{field}.title", message.title, low=1, high=MAX_TITLE),
        description=check_text(f"{field}.description", message.description),
        categories=tuple(
            check_text(f"{field}.categories[{at}]", category, high=MAX_TITLE) for at, category in enumerate(message.categories)
        ),
        average_rating=check_number(f"{field}.average_rating", message.average_rating, 0.0, MAX_RATING)
        if message.HasField("average_rating")
        else None,
        price=check_number(f"{field}.price", message.price, 0.0, math.inf) if message.HasField("price") else None,
        attributes=_attributes(f"{field}.attributes", message.attributes),
    )
    if message.ByteSize() > MAX_ITEM_BYTES:
        raise InvalidArgument(field, f"is {message.ByteSize():,} bytes long; the limit is {MAX_ITEM_BYTES:,}")
    return item


def check_attributes(field: str, values: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """What JSON says of an item's attributes, if an item may have them. Raises InvalidArgument."""
    message = struct_pb2.Struct()
    message.update(values)
    return _attributes(field, message)


def _attributes(field: str, message: struct_pb2.Struct) -> dict[str, AttributeValue]:
    if len(message.fields) > MAX_ATTRIBUTES:
        raise InvalidArgument(field, f"holds {len(message.fields)} attributes; the limit is {MAX_ATTRIBUTES}")
    for name in message.fields:
        if not _ATTRIBUTE.fullmatch(name):
            raise InvalidArgument(field, f"{name[:80]!r} is no name: 1 to 64 letters, digits and _, a letter first")
    return {name: _attribute(f"{field}.{name}", message.fields[name]) for name in sorted(message.fields)}


def _attribute(field: str, value: struct_pb2.Value) -> AttributeValue:
    match value.WhichOneof("kind"):
        case "string_value":
            return check_text(field, value.string_value, high=MAX_TITLE)
        case "number_value":
            return check_number(field, value.number_value, -math.inf, math.inf)
        case "bool_value":
            return value.bool_value
        case "list_value":
            return _texts(field, value.list_value)
    raise InvalidArgument(field, "must be a text, a number, true or false, or a list of texts")


def _texts(field: str, values: struct_pb2.ListValue) -> tuple[str, ...]:
    if len(values.values) > MAX_ATTRIBUTE_VALUES:
        raise InvalidArgument(field, f"lists {len(values.values):,} texts; the limit is {MAX_ATTRIBUTE_VALUES}")
    if any(value.WhichOneof("kind") != "string_value" for value in values.values):
        raise InvalidArgument(field, "must list texts only")
    return tuple(check_text(field, value.string_value, high=MAX_TITLE) for value in values.values)


def item_from_catalogue(message: common_pb2.Item) -> Item:
    """An item that the decoder has checked when it was imported; its texts are not checked again."""
    return Item(
        item_id=message.item_id,
        title=message.title,
        description=message.description,
        categories=tuple(message.categories),
        average_rating=message.average_rating if message.HasField("average_rating") else None,
        price=message.price if message.HasField("price") else None,
        attributes=_attributes("attributes", message.attributes),
    )


def item_to_proto(item: Item) -> common_pb2.Item:
    """The inverse of `item_from_proto`."""
    message = common_pb2.Item(
        item_id=item.item_id,
        title=item.title,
        description=item.description,
        categories=item.categories,
        average_rating=item.average_rating,
        price=item.price,
    )
    if item.attributes:
        message.attributes.update({name: list(v) if isinstance(v, tuple) else v for name, v in item.attributes.items()})
    return message


def interaction_from_proto(message: common_pb2.Interaction, field: str = "interaction") -> Interaction:
    """An interaction with its item whole. Raises InvalidArgument."""
    return Interaction(
        item=item_from_proto(message.item, f"{field}.item"),
        rating=check_number(f"{field}.rating", message.rating, 0.0, MAX_RATING),
        review=check_text(f"{field}.review", message.review),
        time_ms=check_time(f"{field}.time", message.time),
    )


def interaction_to_proto(interaction: Interaction) -> common_pb2.Interaction:
    """The inverse of `interaction_from_proto`."""
    return common_pb2.Interaction(
        item=item_to_proto(interaction.item),
        rating=interaction.rating,
        review=interaction.review,
        time=timestamp(interaction.time_ms),
    )


def history_from_proto(message: common_pb2.History, field: str = "history") -> tuple[Interaction, ...]:
    """1 to 1,000 interactions. Raises InvalidArgument."""
    if not 1 <= len(message.interactions) <= 1_000:
        raise InvalidArgument(f"{field}.interactions", f"must hold 1 to 1,000 interactions, not {len(message.interactions):,}")
    return tuple(interaction_from_proto(entry, f"{field}.interactions[{at}]") for at, entry in enumerate(message.interactions))


def history_to_proto(history: Sequence[Interaction]) -> common_pb2.History:
    """The inverse of `history_from_proto`."""
    return common_pb2.History(interactions=[interaction_to_proto(entry) for entry in history])


def metrics_to_proto(quality: RankingQuality, *, cutoff: int, users: int) -> common_pb2.RankingMetrics:
    """Means over `users` users; cutoff 0 is the whole catalogue."""
    return common_pb2.RankingMetrics(ndcg=quality.ndcg, recall=quality.recall, mrr=quality.mrr, cutoff=cutoff, users=users)


def timestamp(time_ms: int) -> timestamp_pb2.Timestamp:
    """A proto timestamp from milliseconds since 1970."""
    stamp = timestamp_pb2.Timestamp()
    stamp.FromMilliseconds(time_ms)
    return stamp
