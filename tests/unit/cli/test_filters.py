"""Filters as they are written in a shell."""

import pytest

from langptune.cli.filters import parse_filter
from langptune.client import AnyOf, Between, Flag, ItemFilter
from langptune.errors import InvalidArgument


def test_every_kind_of_condition() -> None:
    written = ["categories=comedy,dark drama", "price=..10", "year=1990..1999", "!year=1984", "new=true", "!categories=1984"]
    assert parse_filter(written) == ItemFilter(
        all=(
            AnyOf("categories", ("comedy", "dark drama")),
            Between("price", None, 10.0),
            Between("year", 1990.0, 1999.0),
            Flag("new", True),
        ),
        none=(Between("year", 1984.0, 1984.0), AnyOf("categories", ("1984",))),
    )
    assert parse_filter([]) is None


@pytest.mark.parametrize("written", ["price", "=10", "price=", "price=a..b", "price=nan..2", "!"])
def test_what_is_no_condition_is_named(written: str) -> None:
    with pytest.raises(InvalidArgument, match="--filter"):
        parse_filter([written])
