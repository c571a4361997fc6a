"""Writes raw files of any size in the schema of Amazon Reviews 2023, for the benchmark of the preparation.

    python -m benchmarks.data_world --reviews 1000000 --out build/data

Users and items are in the proportions of the Movies and TV category (17.3M reviews, 6.5M users, 0.75M items): most users write
one review, a few hundreds; some 40 words a review and 90 an item. Texts are made-up words, with the mark-up, nulls, repeated
reviews and missing metadata of the real files. Deterministic in (reviews, seed). What the words say means nothing: nothing can
be learnt here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

REVIEWS_PER_USER = 2.65
REVIEWS_PER_ITEM = 23.0
_CHUNK = 50_000  # reviews drawn at a time
_START_MS, _SPAN_MS = 1_262_304_000_000, 13 * 365 * 86_400_000  # 2010 to 2023
_SYLLABLES = ("ba", "co", "di", "fer", "gan", "hol", "im", "ju", "kel", "lo", "mar", "nes", "or", "pi", "qua", "ron", "sti", "tu")


class Prose:
    """Running text to cut pieces from: cutting costs the same for every length."""

    def __init__(self, rng: np.random.Generator, words: int = 200_000) -> None:
        vocabulary = ["".join(rng.choice(_SYLLABLES, size)) for size in rng.integers(1, 4, 5_000)]
        marks = rng.choice(["", "", "", "", "", "", ",", "."], words)
        running = [f"{vocabulary[at]}{mark} " for at, mark in zip(rng.zipf(1.2, words) % 5_000, marks, strict=True)]
        self._text = "".join(running)
        self._starts = np.concatenate([[0], np.cumsum([len(word) for word in running])])

    def pieces(self, rng: np.random.Generator, lengths: np.ndarray) -> Iterator[str]:
        """One text for each length, in words."""
        first = rng.integers(0, len(self._starts) - 1 - lengths)
        for begin, end in zip(self._starts[first].tolist(), self._starts[first + lengths].tolist(), strict=True):
            yield self._text[begin:end].rstrip()


def write_raw_files(folder: Path, reviews: int, seed: int = 0) -> tuple[Path, Path]:
    """(reviews file, metadata file), plain JSON lines."""
    rng = np.random.default_rng([seed, reviews])
    prose = Prose(rng)
    folder.mkdir(parents=True, exist_ok=True)
    items = max(20, round(reviews / REVIEWS_PER_ITEM))
    paths = folder / "reviews.jsonl", folder / "meta.jsonl"
    for path, records in zip(paths, (_reviews(rng, prose, reviews, items), _metadata(rng, prose, items)), strict=True):
        encoder = msgspec.json.Encoder()
        with path.open("wb") as file:
            file.writelines(encoder.encode(record) + b"\n" for record in records)
    return paths


def _reviews(rng: np.random.Generator, prose: Prose, count: int, items: int) -> Iterator[dict[str, Any]]:
    users = round(count / REVIEWS_PER_USER)
    # Shares of all reviews are log-normal: whatever the size, about as large a part of the reviews survives the 5-core.
    by_user, by_item = (np.cumsum(rng.lognormal(0.0, spread, size)) for spread, size in ((1.3, users), (1.6, items)))
    for begin in range(0, count, _CHUNK):
        size = min(_CHUNK, count - begin)
        user, item = (np.searchsorted(shares, rng.random(size) * shares[-1]).tolist() for shares in (by_user, by_item))
        times = (_START_MS + rng.integers(0, _SPAN_MS, size)).tolist()
        lengths = np.clip(rng.lognormal(np.log(20), 1.2, size), 1, 2_000).astype(np.int64)
        marked, unsaid = rng.random(size) < 0.1, rng.random(size) < 0.001
        for at, text in enumerate(prose.pieces(rng, lengths)):
            yield {
                "rating": float(1 + (user[at] * 7 + item[at] * 13) % 5),
                "title": text[:30],
                "text": f"{text}<br /><br />It&#39;s {text[:40]}" if marked[at] else text,
                "images": [],
                "asin": f"B{item[at]:09d}",
                "parent_asin": f"B{item[at]:09d}",
                "user_id": None if unsaid[at] else f"A{user[at]:027d}",
                "timestamp": times[at],
                "helpful_vote": user[at] % 3,
                "verified_purchase": True,
            }


def _metadata(rng: np.random.Generator, prose: Prose, items: int) -> Iterator[dict[str, Any]]:
    lengths = np.clip(rng.lognormal(np.log(60), 0.9, items), 1, 3_000).astype(np.int64)
    titleless, priceless = rng.random(items) < 0.02, rng.random(items) < 0.4
    for at, text in enumerate(prose.pieces(rng, lengths)):
        yield {
            "main_category": "Movies & TV",
            "title": None if titleless[at] else f"{text[:24].strip()} {at}",
            "average_rating": round(1 + at * 7 % 40 / 10, 1),
            "rating_number": at % 999,
            "features": [],
            "description": [text[:60], text[60:]],
            "price": None if priceless[at] else round(at % 5_000 / 100, 2),
            "images": [],
            "categories": ["Movies & TV", ("Drama", "Comedy", "Action &amp; Adventure")[at % 3]],
            "details": {"Language": "English"},
            "parent_asin": f"B{at:09d}",
        }


def main() -> None:
    """Parse the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=int, default=1_000_000, help="lines of the reviews file")
    parser.add_argument("--out", type=Path, default=Path("build/data"), help="where reviews.jsonl and meta.jsonl go")
    arguments = parser.parse_args()
    write_raw_files(arguments.out, arguments.reviews)


if __name__ == "__main__":
    main()
