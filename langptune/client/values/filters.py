"""Which items may be recommended: conditions on their fields."""

from __future__ import annotations

from dataclasses import dataclass

from langptune.v1 import common_pb2


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The item has at least one of the texts in the field, letter for letter."""

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
    """Which items count: all of the one hold and none of the other. A condition does not hold for an item without the field."""

    all: tuple[Condition, ...] = ()
    none: tuple[Condition, ...] = ()


def item_filter_to_proto(where: ItemFilter) -> common_pb2.ItemFilter:
    return common_pb2.ItemFilter(all=map(_condition_to_proto, where.all), none=map(_condition_to_proto, where.none))


def _condition_to_proto(condition: Condition) -> common_pb2.ItemCondition:
    match condition:
        case AnyOf(field, texts):
            return common_pb2.ItemCondition(field=field, any_of=common_pb2.TextSet(values=texts))
        case Between(field, low, high):
            return common_pb2.ItemCondition(field=field, range=common_pb2.NumberRange(min=low, max=high))
        case Flag(field, flag):
            return common_pb2.ItemCondition(field=field, flag=flag)
