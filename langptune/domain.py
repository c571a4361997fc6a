"""The nouns of the system as plain values: items, interactions, histories and sessions.

They carry no behaviour and no transport; `langptune.convert` maps them to and from the proto messages of the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

AttributeValue = str | float | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the catalogue; its metadata is d_i in the paper."""

    item_id: str
    title: str
    description: str = ""
    categories: tuple[str, ...] = ()
    average_rating: float | None = None  # stars, 0.0 to 5.0
    price: float | None = None  # in the currency of the catalogue, >= 0
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict, hash=False)  # to filter by; no model reads them


@dataclass(frozen=True, slots=True)
class Interaction:
    """What one user said about one item."""

    item: Item
    rating: float  # stars, 0.0 to 5.0
    review: str = ""
    time_ms: int = 0  # milliseconds since 1970-01-01 UTC


@dataclass(frozen=True, slots=True)
class Session:
    """One learning or evaluation example: a history h and the items f that came next (Section 4.1)."""

    user_id: str
    history: tuple[Interaction, ...]
    target_item_ids: tuple[str, ...]
    split: str = field(default="train")  # train | validation | test
