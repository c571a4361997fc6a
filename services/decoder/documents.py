"""An item as the index stores it: the document (payload), its point's id, and the revision that says when to embed again."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from typing import Any

from langptune.domain import AttributeValue, Item
from langptune.text import TEMPLATE_HASH

_NAMESPACE = uuid.UUID("6a0f6b1e-5a0c-5d43-9a52-0d1cf1c1a9b7")

FLAG_WORDS = {True: "true", False: "false"}


def point_id(item_id: str) -> uuid.UUID:
    """The id of an item's point: Qdrant takes numbers and UUIDs only."""
    return uuid.uuid5(_NAMESPACE, item_id)


def to_document(item: Item) -> dict[str, Any]:
    """The payload: one field per field of the item, so that filters can name them.

    Flags are apart, and words: the embedded engine takes True for the number 1, which matches nothing.
    """
    document: dict[str, Any] = {
        "item_id": item.item_id,
        "title": item.title,
        "description": item.description,
        "categories": list(item.categories),
        "average_rating": item.average_rating,
        "price": item.price,
    }
    flags = {name: FLAG_WORDS[value] for name, value in item.attributes.items() if isinstance(value, bool)}
    rest = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in item.attributes.items()
        if not isinstance(value, bool)
    }
    return {**document, **({"attributes": rest} if rest else {}), **({"flags": flags} if flags else {})}


def from_document(document: Mapping[str, Any]) -> Item:
    """The inverse of `to_document`; further fields are left aside."""
    return Item(
        item_id=document["item_id"],
        title=document["title"],
        description=document["description"],
        categories=tuple(document["categories"]),
        average_rating=document["average_rating"],
        price=document["price"],
        attributes=_attributes(document),
    )


def _attributes(document: Mapping[str, Any]) -> dict[str, AttributeValue]:
    rest = {name: tuple(v) if isinstance(v, list) else v for name, v in document.get("attributes", {}).items()}
    return {**rest, **{name: word == FLAG_WORDS[True] for name, word in document.get("flags", {}).items()}}


def revision(item: Item) -> str:
    """16 hex digits that change with the item's content."""
    content = json.dumps(to_document(item), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def indexed_revision(current: str, recipe: str) -> str:
    """What an index notes beside a vector: the item's revision, its text form, and how it was embedded."""
    return f"{current}:{TEMPLATE_HASH}:{recipe}"
