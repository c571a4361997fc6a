"""Which items count, as plain values: what the engines translate, and the declared fields that a filter may name.

One rule for both engines: a condition does not hold for an item that lacks the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FieldKind = Literal["text", "number", "flag"]

OWN_FIELDS: Mapping[str, FieldKind] = {"categories": "text", "price": "number", "average_rating": "number"}


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The item has at least one of the texts in the field."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """The field's number lies in low..high, both included; None leaves an end open."""

    field: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Flag:
    """The field is just so."""

    field: str
    value: bool


Condition = AnyOf | Between | Flag


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """All of the one and none of the other; the empty filter passes every item."""

    all: tuple[Condition, ...] = ()
    none: tuple[Condition, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.all or self.none)


EVERYTHING = ItemFilter()


def payload_key(field: str, kind: FieldKind) -> str:
    """Where the payload holds a filterable field; see `documents.to_document`."""
    if field in OWN_FIELDS:
        return field
    return f"flags.{field}" if kind == "flag" else f"attributes.{field}"
