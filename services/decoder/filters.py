"""From the filter of a request to the filter of the index: the one place that says which fields may be named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from langptune.convert import MAX_TITLE, check_number, check_range, check_text
from langptune.domain import AttributeValue, Item
from langptune.errors import InvalidArgument
from langptune.v1 import common_pb2
from services.decoder.index import AnyOf, Between, Flag, ItemFilter
from services.decoder.index.filter import OWN_FIELDS, Condition, FieldKind

_MAX_CONDITIONS = 32
_MAX_VALUES = 1_000
_TEST_OF_KIND: Mapping[FieldKind, str] = {"text": "any_of", "number": "range", "flag": "flag"}


class FilterFields:
    """The fields that filters may name: an item's own, and the attributes that the settings declare."""

    def __init__(self, declared: Mapping[str, FieldKind]) -> None:
        self._declared = dict(declared)
        self.kinds: Mapping[str, FieldKind] = {**declared, **OWN_FIELDS}

    def filter_from_proto(self, message: common_pb2.ItemFilter, field: str = "filter") -> ItemFilter:
        """Raises InvalidArgument, naming an unknown field, for what the comments in common.proto rule out."""
        return ItemFilter(self._conditions(message.all, f"{field}.all"), self._conditions(message.none, f"{field}.none"))

    def check_item(self, item: Item) -> Item:
        """`item` if each declared attribute that it has is of the declared kind. Raises InvalidArgument."""
        for name, kind in self._declared.items():
            value = item.attributes.get(name)
            if value is not None and _kind(value) != kind:
                raise InvalidArgument(f"item.attributes.{name}", f"is declared to be a {kind}, not {value!r}"[:200])
        return item

    def _conditions(self, messages: Sequence[common_pb2.ItemCondition], field: str) -> tuple[Condition, ...]:
        check_range(field, len(messages), 0, _MAX_CONDITIONS)
        return tuple(self._condition(message, f"{field}[{at}]") for at, message in enumerate(messages))

    def _condition(self, message: common_pb2.ItemCondition, field: str) -> Condition:
        kind = self.kinds.get(message.field)
        if kind is None:
            known = ", ".join(sorted(self.kinds))
            raise InvalidArgument(f"{field}.field", f"{message.field[:80]!r} is not filterable; these are: {known}")
        test = message.WhichOneof("test")
        if test != _TEST_OF_KIND[kind]:
            raise InvalidArgument(field, f"{message.field} is a {kind} field: it takes `{_TEST_OF_KIND[kind]}`, not `{test}`")
        match kind:
            case "text":
                check_range(f"{field}.any_of.values", len(message.any_of.values), 1, _MAX_VALUES)
                values = (check_text(f"{field}.any_of.values", value, high=MAX_TITLE) for value in message.any_of.values)
                return AnyOf(message.field, tuple(values))
            case "number":
                return _between(message, f"{field}.range")
            case "flag":
                return Flag(message.field, message.flag)


def _between(message: common_pb2.ItemCondition, field: str) -> Between:
    span = message.range
    low = check_number(f"{field}.min", span.min, -math.inf, math.inf) if span.HasField("min") else None
    high = check_number(f"{field}.max", span.max, -math.inf, math.inf) if span.HasField("max") else None
    if low is None and high is None:
        raise InvalidArgument(field, "needs `min` or `max`")
    return Between(message.field, low, high)


def _kind(value: AttributeValue) -> FieldKind:
    if isinstance(value, bool):
        return "flag"
    return "number" if isinstance(value, float | int) else "text"
