"""Items and interactions from JSON lines, one object a line; what is wrong is named by line and field.

{"item_id": "i1", "title": "Alien", "description": "...", "categories": ["horror"], "average_rating": 4.5, "price": 9.99,
 "attributes": {"year": 1979, "languages": ["en"], "animated": false}}
{"user_id": "u1", "item_id": "i1", "rating": 5.0, "review": "...", "time_ms": 1640995200000}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from langptune.client import NewInteraction
from langptune.convert import MAX_RATING, MAX_TITLE, check_attributes, check_id, check_number, check_text
from langptune.domain import Item
from langptune.errors import InvalidArgument, NotFound

ParsedT = TypeVar("ParsedT")
Kinds = tuple[type, ...]

_MAX_TIME_MS = 253_402_300_799_999  # the last millisecond of the year 9999
_ITEM_FIELDS: dict[str, Kinds] = {
    "item_id": (str,),
    "title": (str,),
    "description": (str,),
    "categories": (list,),
    "average_rating": (int, float, type(None)),
    "price": (int, float, type(None)),
    "attributes": (dict,),
}
_INTERACTION_FIELDS: dict[str, Kinds] = {
    "user_id": (str,),
    "item_id": (str,),
    "rating": (int, float),
    "review": (str,),
    "time_ms": (int, type(None)),
}


def read_lines(path: Path, parse: Callable[[dict[str, Any]], ParsedT]) -> Iterator[ParsedT]:
    """Each line parsed; blank lines are passed over. Raises NotFound, and InvalidArgument with the line and the field."""
    try:
        file = path.open("rb")
    except OSError:
        raise NotFound("file", str(path)) from None
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                parsed = parse(_decode(line))
            except InvalidArgument as error:
                raise InvalidArgument(f"{path.name} line {number}", error.message) from None
            yield parsed


def count_lines(path: Path, parse: Callable[[dict[str, Any]], object]) -> int:
    """How many there are, once every one has been checked; so a bad line is met before anything is sent. Raises as above."""
    return sum(1 for _ in read_lines(path, parse))


def parse_item(record: dict[str, Any]) -> Item:
    """Raises InvalidArgument naming the field."""
    _check_kinds(record, _ITEM_FIELDS)
    categories = record.get("categories", [])
    for at, category in enumerate(categories):
        if not isinstance(category, str):
            raise InvalidArgument(f"categories[{at}]", f"must be text, not {category!r}")
        check_text(f"categories[{at}]", category, high=MAX_TITLE)
    rating, price = record.get("average_rating"), record.get("price")
    return Item(
        item_id=check_id("item_id", record.get("item_id", "")),
        title=check_text("title", record.get("title", ""), low=1, high=MAX_TITLE),
        description=check_text("description", record.get("description", "")),
        categories=tuple(categories),
        average_rating=None if rating is None else check_number("average_rating", rating, 0.0, MAX_RATING),
        price=None if price is None else check_number("price", price, 0.0, math.inf),
        attributes=check_attributes("attributes", record.get("attributes", {})),
    )


def parse_interaction(record: dict[str, Any]) -> tuple[str, NewInteraction]:
    """(user id, interaction); without time_ms it is of now. Raises InvalidArgument naming the field."""
    _check_kinds(record, _INTERACTION_FIELDS)
    if "rating" not in record:
        raise InvalidArgument("rating", "is required")
    time_ms = record.get("time_ms")
    if time_ms is not None:
        check_number("time_ms", time_ms, 0, _MAX_TIME_MS)
    interaction = NewInteraction(
        item_id=check_id("item_id", record.get("item_id", "")),
        rating=check_number("rating", record["rating"], 0.0, MAX_RATING),
        review=check_text("review", record.get("review", "")),
        time_ms=time_ms,
    )
    return check_id("user_id", record.get("user_id", "")), interaction


def _decode(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line, parse_constant=_refuse)
    except UnicodeDecodeError:
        raise InvalidArgument("text", "is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise InvalidArgument("JSON", f"{error.msg} at column {error.colno}") from None
    if not isinstance(record, dict):
        raise InvalidArgument("JSON", f"must be an object, not {type(record).__name__}")
    return record


def _refuse(constant: str) -> NoReturn:
    raise InvalidArgument("JSON", f"{constant} is no JSON number")


def _check_kinds(record: dict[str, Any], fields: dict[str, Kinds]) -> None:
    for name, value in record.items():
        if name not in fields:
            raise InvalidArgument(name, f"is no field; the fields are {', '.join(fields)}")
        if not isinstance(value, fields[name]) or isinstance(value, bool):
            wanted = " or ".join(
                {"NoneType": "null", "str": "text", "int": "number", "dict": "an object"}.get(k.__name__, k.__name__)
                for k in fields[name]
            )
            raise InvalidArgument(name, f"must be {wanted}, not {json.dumps(value)[:50]}")
