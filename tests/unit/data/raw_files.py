"""Writes small raw files for the tests of the preparation, in the schema of Amazon Reviews 2023."""

from __future__ import annotations

import gzip
import json
import string
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def review(user: str, item: str, time: int, **other: Any) -> dict[str, Any]:
    fields = {
        "user_id": user,
        "parent_asin": item,
        "rating": 4.5,
        "title": "a title",
        "text": f"{user} on {item}",
        "timestamp": time,
    }
    return {**fields, "images": [], "verified_purchase": True, **other}


def metadata(item: str, **other: Any) -> dict[str, Any]:
    fields = {
        "parent_asin": item,
        "title": f"Title {item}",
        "average_rating": 4.1,
        "rating_number": 7,
        "description": ["About", item],
    }
    return {**fields, "categories": ["Books", "Fiction"], "price": 7.99, "details": {}, **other}


def write_lines(path: Path, records: Iterable[Mapping[str, Any] | str]) -> Path:
    """One record per line; strings are written as they are."""
    text = "".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode())
    return path


def write_world(folder: Path, histories: Mapping[str, str], *, start: Mapping[str, int] | None = None) -> tuple[Path, Path]:
    """Users with one-letter items in the order of their times: user u's n-th review is at start[u] + n."""
    reviews = [
        review(user, item, (start or {}).get(user, 0) + nth)
        for user, items in histories.items()
        for nth, item in enumerate(items)
    ]
    letters = sorted({item for items in histories.values() for item in items} & set(string.ascii_letters))
    return write_lines(folder / "reviews.jsonl", reviews), write_lines(folder / "meta.jsonl", map(metadata, letters))
