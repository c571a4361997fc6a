"""Which text may stand in a profile, and in which form."""

import pytest

from langptune.errors import InvalidArgument
from services.gateway.profiles.revision import MAX_PROFILE, normalise


def test_text_is_normalised() -> None:
    assert normalise(" \u00a0\tCafe\u0301\r\nand\rbar\u2028end \n") == "Café\nand\nbar\nend"


@pytest.mark.parametrize("text", ["", " \n\t ", "a\x00b", "bell \x07", "\x1f", "a" * (MAX_PROFILE + 1), "x" * (1 << 20)])
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^text: "):
        normalise(text)


def test_the_limit_itself_is_allowed() -> None:
    assert len(normalise("a" * MAX_PROFILE + "\n")) == MAX_PROFILE
