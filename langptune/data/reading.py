"""The two passes over the raw files: ids, ratings and times of everything, then the texts of the survivors only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress, count, islice

import numpy as np
import pyarrow as pa

from langptune.data.clean import plain_list, plain_text, price
from langptune.data.columns import Columns, Ints, Mask
from langptune.data.raw import Batch, Metadata, RawFile, Review
from langptune.domain import Interaction, Item

_TEXT_BATCH = 32_768  # reviews held as Python strings at a time


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
    catalogue: dict[str | None, int] = {}
    item_lines: list[int] = []
    malformed_metadata = 0
    for metadata_batch in metadata.batches("read metadata"):
        malformed_metadata += metadata_batch.malformed
        for line, item in zip(metadata_batch.lines.tolist(), metadata_batch.records, strict=True):
            if item.parent_asin and item.parent_asin not in catalogue and plain_text(item.title):
                catalogue[item.parent_asin] = len(item_lines)
                item_lines.append(line)
    item_codes = defaultdict(count(len(catalogue)).__next__, catalogue)
    user_codes: defaultdict[str | None, int] = defaultdict(count().__next__)
    parts, malformed, incomplete = [Columns.empty()], 0, 0
    for batch in reviews.batches("read reviews"):
        malformed += batch.malformed
        whole = [_is_whole(review) for review in batch.records]
        incomplete += whole.count(False)
        parts.append(_columns(batch, np.array(whole, dtype=bool), user_codes, item_codes))
    columns = Columns(*(np.concatenate([getattr(part, name) for part in parts]) for name in Columns.__slots__))
    lines = np.array(item_lines, dtype=np.int64)
    user_ids = [user_id for user_id in user_codes if user_id]
    return FirstPass(columns, user_ids, lines, malformed, malformed_metadata, incomplete)


def _is_whole(review: Review) -> bool:
    return bool(review.user_id and review.parent_asin) and review.rating is not None and review.timestamp is not None


def _columns(
    batch: Batch[Review], whole: Mask, user_codes: Mapping[str | None, int], item_codes: Mapping[str | None, int]
) -> Columns:
    reviews = batch.records if whole.all() else list(compress(batch.records, whole.tolist()))
    return Columns(
        np.array([user_codes[review.user_id] for review in reviews], dtype=np.int32),
        np.array([item_codes[review.parent_asin] for review in reviews], dtype=np.int32),
        np.array([review.rating for review in reviews], dtype=np.float64),
        np.array([review.timestamp for review in reviews], dtype=np.int64),
        batch.lines[whole],
    )


@dataclass(frozen=True, slots=True)
class Texts:
    """What the second pass adds: the items, and the cleaned review texts."""

    items: list[Item]  # by item code
    lines: Ints  # [n], ascending
    reviews: list[pa.Array]  # the reviews of `lines`, _TEXT_BATCH in each array but the last

    def reviews_at(self, lines: Ints) -> pa.Array:
        """The reviews of `lines`, in that order. Copies nothing but these."""
        chunk, offset = np.divmod(np.searchsorted(self.lines, lines), _TEXT_BATCH)
        parts = [self.reviews[at].take(pa.array(offset[chunk == at])) for at in np.unique(chunk).tolist()]
        place = np.empty(len(lines), dtype=np.int64)
        place[np.argsort(chunk, kind="stable")] = np.arange(len(lines))
        return pa.concat_arrays(parts).take(pa.array(place)) if len(parts) > 1 else parts[0]

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
    chunks = []
    while chunk := list(islice(texts, _TEXT_BATCH)):
        chunks.append(pa.array(chunk, pa.string()))
    return Texts(items, lines, chunks)


def _item(raw: Metadata) -> Item:
    return Item(
        item_id=raw.parent_asin or "",
        title=plain_text(raw.title),
        description=" ".join(plain_list(raw.description)),
        categories=tuple(plain_list(raw.categories)),
        average_rating=raw.average_rating,
        price=price(raw.price),
    )
