"""Raw shop text to plain text: HTML breaks, tags and entities, Amazon's inline markup, control characters, white space.

Words are never changed. Only markup that is unmistakable goes: "I <3 it" and "a<b and c>d" stay as they are.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence

_TAG = re.compile(
    r"<!--.*?-->|</?(?:a|b|big|blockquote|br|center|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|small|span|strong|sub|sup|table|tbody|td"
    r"|th|tr|u|ul)(?:\s+[\w:-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'>]+))*\s*/?>",
    re.IGNORECASE | re.DOTALL,
)
_SHOP_MARKUP = re.compile(r"\[\[(?:VIDEOID:[^\]]*|ASIN:\w+\s*([^\]]*))\]\]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_PRICE = re.compile(r"\$?\s*(\d[\d,]*(?:\.\d+)?)")


def plain_text(raw: str | None) -> str:
    """One line of plain text; "" for null."""
    if not raw:
        return ""
    if "&" in raw:
        raw = html.unescape(raw)
    if "<" in raw:
        raw = _TAG.sub(" ", raw)
    if "[[" in raw:
        raw = _SHOP_MARKUP.sub(lambda match: match.group(1) or " ", raw)
    if raw.isprintable() and "  " not in raw:  # the space is the only white space that is printable
        return raw.strip()
    return " ".join(_CONTROL.sub(" ", raw).split())


def plain_list(raw: Sequence[str | None] | str | None) -> list[str]:
    """A list of plain texts without empty entries; a lone string counts as a list of one, null as none."""
    entries = [raw] if isinstance(raw, str) else raw or ()
    return [text for text in map(plain_text, entries) if text]


def price(raw: float | str | None) -> float | None:
    """7.99, "7.99" and "$7.99" are 7.99; null, "", "None" and ranges such as "from $3" are None."""
    if isinstance(raw, str):
        match = _PRICE.fullmatch(raw.strip())
        raw = float(match.group(1).replace(",", "")) if match else None
    return raw if raw is not None and math.isfinite(raw) else None
