"""Item filters as one writes them in a shell: `categories=comedy,drama`, `price=..10`, `year=1990..1999`, `!new=true`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from langptune.errors import InvalidArgument

if TYPE_CHECKING:
    from langptune.client import Condition, ItemFilter


def parse_filter(conditions: Sequence[str]) -> ItemFilter | None:
    """All of them together; one with a ! in front must not hold. None for none. Raises InvalidArgument naming the one."""
    from langptune.client import ItemFilter

    wanted = [condition for condition in conditions if not condition.startswith("!")]
    unwanted = [condition[1:] for condition in conditions if condition.startswith("!")]
    if not wanted and not unwanted:
        return None
    return ItemFilter(tuple(map(_condition, wanted)), tuple(map(_condition, unwanted)))


def _condition(text: str) -> Condition:
    from langptune.client import AnyOf, Between, Flag

    field, equals, value = text.partition("=")
    if not (field and equals and value):
        raise InvalidArgument("--filter", f"must be FIELD=VALUE, such as categories=comedy or price=..10, not {text!r}")
    if value in ("true", "false"):
        return Flag(field, value == "true")
    low, dots, high = value.partition("..")
    if dots:
        return Between(field, _number(low, text), _number(high, text))
    if field != "categories" and (number := _maybe_number(value)) is not None:
        return Between(field, number, number)
    return AnyOf(field, tuple(value.split(",")))


def _number(text: str, condition: str) -> float | None:
    """None for an end that is left open."""
    number = _maybe_number(text)
    if text and number is None:
        raise InvalidArgument("--filter", f"{text!r} in {condition!r} is no number")
    return number


def _maybe_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
