"""The prepared data set: a folder of Parquet files that training, evaluation and import all read.

    items.parquet         one row per item: item_id, title, description, categories, average_rating, price; and attributes, a JSON
                          object as text, if any item has some
    interactions.parquet  one row per interaction: user_id, item_id, rating, review, time_ms
    sessions.parquet      one row per example: user_id, split, history (rows of interactions.parquet, oldest first), targets
    dataset.json          name, domain noun, how it was made, counts, and the content hash of the three files above

`dataset.json` is written last: a folder without it is not a data set.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from langptune.convert import check_attributes
from langptune.domain import Interaction, Item, Session
from langptune.errors import FailedPrecondition, InvalidArgument
from langptune.text import DEFAULT_DOMAIN

ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("description", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("average_rating", pa.float64()),
        ("price", pa.float64()),
    ]
)
ATTRIBUTES = "attributes"  # column
INTERACTION_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("rating", pa.float64()),
        ("review", pa.string()),
        ("time_ms", pa.int64()),
    ]
)
SESSION_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("split", pa.string()),
        ("history", pa.list_(pa.int64())),
        ("targets", pa.list_(pa.string())),
    ]
)
SPLITS = ("train", "validation", "test")
_FILES = ("items.parquet", "interactions.parquet", "sessions.parquet")


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session by reference: positions in the interaction table in place of the interactions themselves."""

    user_id: str
    split: str
    history: tuple[int, ...]
    target_item_ids: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """A prepared data set on disk. Tables are read when first asked for."""

    folder: Path
    name: str
    domain: str  # the noun of the prompt, e.g. "books"
    content_hash: str  # SHA-256 over the Parquet files
    info: Mapping[str, Any]  # dataset.json as it stands

    @classmethod
    def open(cls, folder: str | Path) -> Dataset:
        """Raises FailedPrecondition if `folder` holds no complete data set."""
        path = Path(folder)
        try:
            info = json.loads((path / "dataset.json").read_text())
        except (OSError, ValueError) as error:
            raise FailedPrecondition(f"{path} is not a prepared data set: {error}", reason="NOT_A_DATASET") from error
        return cls(path, info["name"], info["domain"], info["content_hash"], info)

    @cached_property
    def items(self) -> dict[str, Item]:
        """All items by id, in file order."""
        rows = pq.read_table(self.folder / "items.parquet").to_pylist()
        return {row["item_id"]: item_from_row(row) for row in rows}

    @cached_property
    def interactions(self) -> list[tuple[str, Interaction]]:
        """All (user id, interaction) pairs, in file order."""
        return [
            (row["user_id"], Interaction(self.items[row["item_id"]], row["rating"], row["review"], row["time_ms"]))
            for row in pq.read_table(self.folder / "interactions.parquet").to_pylist()
        ]

    def sessions(self, split: str) -> list[Session]:
        """The sessions of one split, in file order. Raises InvalidArgument for an unknown split."""
        if split not in SPLITS:
            raise InvalidArgument("split", f"must be one of {', '.join(SPLITS)}, not {split!r}")
        table = pq.read_table(self.folder / "sessions.parquet", filters=[("split", "=", split)])
        return [
            Session(row["user_id"], tuple(self.interactions[at][1] for at in row["history"]), tuple(row["targets"]), split)
            for row in table.to_pylist()
        ]


def write_dataset(
    folder: str | Path,
    *,
    name: str,
    items: Iterable[Item],
    interactions: Sequence[tuple[str, Interaction]],
    sessions: Iterable[SessionRow],
    domain: str = DEFAULT_DOMAIN,
    made_by: Mapping[str, Any],
) -> Dataset:
    """Write a complete data set; `made_by` (settings, seed, funnel) goes into dataset.json as it is.

    Raises FailedPrecondition as `write_tables` does.
    """
    items = list(items)
    sessions = list(sessions)
    entries = [entry for _, entry in interactions]
    interaction_table = pa.table(
        [
            [user_id for user_id, _ in interactions],
            [entry.item.item_id for entry in entries],
            [entry.rating for entry in entries],
            [entry.review for entry in entries],
            [entry.time_ms for entry in entries],
        ],
        schema=INTERACTION_SCHEMA,
    )
    session_table = pa.table(
        [
            [session.user_id for session in sessions],
            [session.split for session in sessions],
            [session.history for session in sessions],
            [session.target_item_ids for session in sessions],
        ],
        schema=SESSION_SCHEMA,
    )
    tables = Tables(item_table(items), interaction_table.to_reader(), session_table)
    return write_tables(folder, name=name, tables=tables, domain=domain, made_by=made_by)


@dataclass(frozen=True, slots=True)
class Tables:
    """The three files' content; interactions come as a stream, since they hold most of the text."""

    items: pa.Table  # ITEM_SCHEMA
    interactions: pa.RecordBatchReader  # INTERACTION_SCHEMA
    sessions: pa.Table  # SESSION_SCHEMA


def item_table(items: Sequence[Item]) -> pa.Table:
    """Items as a table of ITEM_SCHEMA, and a column of their attributes if any item has some."""
    table = pa.table([[getattr(item, column) for item in items] for column in ITEM_SCHEMA.names], schema=ITEM_SCHEMA)
    if not any(item.attributes for item in items):
        return table
    attributes = [json.dumps(item.attributes, sort_keys=True, ensure_ascii=False) if item.attributes else None for item in items]
    return table.append_column(ATTRIBUTES, pa.array(attributes, pa.string()))


def item_from_row(row: Mapping[str, Any]) -> Item:
    """The item of a row of `item_table`. Raises InvalidArgument for attributes that no item may have."""
    try:
        attributes = json.loads(row.get(ATTRIBUTES) or "{}")
    except (TypeError, ValueError):
        attributes = None
    if not isinstance(attributes, dict):
        raise InvalidArgument(ATTRIBUTES, f"must be a JSON object as text, not {row[ATTRIBUTES]!r}"[:200])
    return Item(
        **{column: row[column] for column in ITEM_SCHEMA.names if column != "categories"},
        categories=tuple(row["categories"] or ()),
        attributes=check_attributes(ATTRIBUTES, attributes),
    )


def write_tables(folder: str | Path, *, name: str, tables: Tables, domain: str, made_by: Mapping[str, Any]) -> Dataset:
    """Write tables as a complete data set.

    They are written beside `folder` first and moved into it when all are complete: if writing fails, what `folder` held
    stays as it was. Raises FailedPrecondition if the disk is full or the place cannot be written.
    """
    path = Path(folder).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as fresh:
            info = _write_files(Path(fresh), name, tables, domain, made_by)
            path.mkdir(exist_ok=True)
            (path / "dataset.json").unlink(missing_ok=True)
            for file in (*_FILES, "dataset.json"):
                (Path(fresh) / file).replace(path / file)
    except OSError as error:
        raise FailedPrecondition(f"the data set cannot be written to {path}: {error}", reason="STORAGE") from error
    return Dataset(path, name, domain, info["content_hash"], info)


def _write_files(folder: Path, name: str, tables: Tables, domain: str, made_by: Mapping[str, Any]) -> dict[str, Any]:
    readers = (tables.items.to_reader(), tables.interactions, tables.sessions.to_reader())
    items, interactions, sessions = (_write_parquet(folder / file, rows) for file, rows in zip(_FILES, readers, strict=True))
    info = {
        "name": name,
        "domain": domain,
        "counts": {"items": items, "interactions": interactions, "sessions": sessions},
        "content_hash": _content_hash(folder),
        **made_by,
    }
    (folder / "dataset.json").write_text(json.dumps(info, indent=2) + "\n")
    return info


def _write_parquet(file: Path, rows: pa.RecordBatchReader) -> int:
    """Write all rows; returns how many."""
    count = 0
    with pq.ParquetWriter(file, rows.schema) as writer:
        for batch in rows:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _content_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in _FILES:
        with (folder / file).open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
