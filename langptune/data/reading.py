"""The two passes over the raw files: ids, ratings and times of everything, then the texts of the survivors only."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import pyarrow as pa

from langptune.data.clean import plain_list, plain_text, price
from langptune.data.columns import Columns, Ints
from langptune.data.raw import Metadata, RawFile, Review
from langptune.domain import Interaction, Item

_TEXT_BATCH = 65_536  # reviews held as Python strings at a time


@dataclass(frozen=True, slots=True)
class FirstPass:
    """All complete interactions in file order, and what their codes stand for."""

    columns: Columns  # an item code of len(item_lines) or more is an item without metadata or title
    user_ids: list[str]  # by user code
    item_lines: Ints  # by item code: line of the metadata file, ascending
    malformed_reviews: int
    malformed_metadata: int
    incomplete: int  # reviews without user, item, rating or time

    def compact(self, columns: Columns) -> FirstPass:
        """The same with `columns`, a subset of the interactions, whose users and items get codes without gaps."""
        users, user = np.unique(columns.user, return_inverse=True)
        items, item = np.unique(columns.item, return_inverse=True)
        coded = Columns(user.astype(np.int32), item.astype(np.int32), columns.rating, columns.time, columns.line)
        user_ids = [self.user_ids[code] for code in users.tolist()]
        counts = (self.malformed_reviews, self.malformed_metadata, self.incomplete)
        return FirstPass(coded, user_ids, self.item_lines[items], *counts)


def first_pass(reviews: RawFile[Review], metadata: RawFile[Metadata]) -> FirstPass:
    """Read ids, ratings and times. Raises InvalidArgument at a malformed line unless those are skipped."""
    catalogue: dict[str, int] = {}
    item_lines: list[int] = []
    malformed_metadata = 0
    for metadata_batch in metadata.batches("read metadata"):
        malformed_metadata += metadata_batch.malformed
        for line, item in zip(metadata_batch.lines.tolist(), metadata_batch.records, strict=True):
            if item.parent_asin and item.parent_asin not in catalogue and plain_text(item.title):
                catalogue[item.parent_asin] = len(item_lines)
                item_lines.append(line)
    item_codes = defaultdict(count(len(catalogue)).__next__, catalogue)
    user_codes: defaultdict[str, int] = defaultdict(count().__next__)
    parts, malformed, incomplete = [_columns([], [], [], [], [])], 0, 0
    for batch in reviews.batches("read reviews"):
        malformed += batch.malformed
        whole = [
            (user_codes[review.user_id], item_codes[review.parent_asin], review.rating, review.timestamp, line)
            for review, line in zip(batch.records, batch.lines.tolist(), strict=True)
            if review.user_id and review.parent_asin and review.rating is not None and review.timestamp is not None
        ]
        incomplete += len(batch.records) - len(whole)
        if whole:
            parts.append(_columns(*zip(*whole, strict=True)))
    columns = Columns(*(np.concatenate([getattr(part, name) for part in parts]) for name in Columns.__slots__))
    lines = np.array(item_lines, dtype=np.int64)
    return FirstPass(columns, list(user_codes), lines, malformed, malformed_metadata, incomplete)


def _columns(user: object, item: object, rating: object, time: object, line: object) -> Columns:
    return Columns(
        np.array(user, dtype=np.int32),
        np.array(item, dtype=np.int32),
        np.array(rating, dtype=np.float64),
        np.array(time, dtype=np.int64),
        np.array(line, dtype=np.int64),
    )


@dataclass(frozen=True, slots=True)
class Texts:
    """What the second pass adds: the items, and the cleaned review texts."""

    items: list[Item]  # by item code
    lines: Ints  # [n], ascending
    reviews: pa.Array  # [n], large_string, the reviews of `lines`

    def reviews_at(self, lines: Ints) -> pa.Array:
        """The reviews of `lines`, in that order."""
        return self.reviews.take(pa.array(np.searchsorted(self.lines, lines)))

    def histories(self, columns: Columns, firsts: Ints, length: int) -> list[list[Interaction]]:
        """The histories of `length` rows of `columns` that begin at `firsts`."""
        part = columns.at((firsts[:, None] + np.arange(length)).ravel())
        entries = map(
            Interaction,
            (self.items[code] for code in part.item.tolist()),
            part.rating.tolist(),
            self.reviews_at(part.line).to_pylist(),
            part.time.tolist(),
        )
        return [list(islice(entries, length)) for _ in range(len(firsts))]


def second_pass(survivors: FirstPass, reviews: RawFile[Review], metadata: RawFile[Metadata]) -> Texts:
    """Read and clean the texts of the survivors."""
    items = list(map(_item, metadata.records_at("read item texts", survivors.item_lines)))
    lines = np.sort(survivors.columns.line)
    texts = (plain_text(review.text) for review in reviews.records_at("read review texts", lines))
    chunks = [pa.array([], pa.large_string())]
    while chunk := list(islice(texts, _TEXT_BATCH)):
        chunks.append(pa.array(chunk, pa.large_string()))
    return Texts(items, lines, pa.concat_arrays(chunks))


def _item(raw: Metadata) -> Item:
    return Item(
        item_id=raw.parent_asin or "",
        title=plain_text(raw.title),
        description=" ".join(plain_list(raw.description)),
        categories=tuple(plain_list(raw.categories)),
        average_rating=raw.average_rating,
        price=price(raw.price),
    )
