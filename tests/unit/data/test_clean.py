import pytest

from langptune.data.clean import plain_list, plain_text, price


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        (None, ""),
        ("", ""),
        (" \n ", ""),
        ("as it is", "as it is"),
        ("One.<br /><br />Two.<BR>Three", "One. Two. Three"),
        ("8&#34; &amp; &quot;fine&quot;", '8" & "fine"'),
        ("escaped &lt;br /&gt; break", "escaped break"),
        ('<p class="x">a <b>bold</b> <a href="http://x.y">link</a></p>', "a bold link"),
        ("I <3 it, a<b and c>d, <unknown>", "I <3 it, a<b and c>d, <unknown>"),
        ("tab\tand\r\nline\u00a0end", "tab and line end"),
        ("nul\x00 and bell\x07", "nul and bell"),
        ("[[VIDEOID:abc123]] see [[ASIN:B000123 The Thing]] there", "see The Thing there"),
        ("café 映画 😀", "café 映画 😀"),
    ],
)
def test_plain_text(raw: str | None, plain: str) -> None:
    assert plain_text(raw) == plain


def test_plain_list_takes_null_a_string_and_lists_with_holes() -> None:
    assert plain_list(None) == plain_list([]) == plain_list("") == []
    assert plain_list("one") == ["one"]
    assert plain_list(["a<br>b", None, "", "c"]) == ["a b", "c"]


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (7.99, 7.99),
        (0, 0.0),
        ("7.99", 7.99),
        ("$1,207.50", 1207.5),
        ("None", None),
        ("", None),
        (None, None),
        ("from $3.00", None),
        ("—", None),
    ],
)
def test_price(raw: float | str | None, value: float | None) -> None:
    assert price(raw) == value
