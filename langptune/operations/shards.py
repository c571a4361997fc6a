"""One shard of a table in Parquet files, read row by row, and how far it has been worked through.

Of N rows over all files (in the order of their names), shard i of n has those from i N / n to (i + 1) N / n: equal shares,
without looking at what is in them, and only the row groups that hold them are read. The mark of how far a shard is lies in a
folder, so a pod that takes the place of another goes on where that one was. What is done with the rows is not known here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from langptune.errors import FailedPrecondition, InvalidArgument, NotFound

_FORM = re.compile(r"(\d+)/(\d+)")
_INDEX = "JOB_COMPLETION_INDEX"  # what Kubernetes tells each pod of an Indexed Job


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `index` of `count`, from 0."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """ "2/8"; "/8" takes the index from JOB_COMPLETION_INDEX. Raises InvalidArgument."""
        found = _FORM.fullmatch(f"{os.environ.get(_INDEX, '')}{text}" if text.startswith("/") else text)
        if not found or not int(found[1]) < int(found[2]):
            raise InvalidArgument("--shard", f"must be I/N with I below N (or /N, with {_INDEX} set), not {text!r}")
        return cls(int(found[1]), int(found[2]))

    def span(self, rows: int) -> range:
        """Its rows of that many."""
        return range(self.index * rows // self.count, (self.index + 1) * rows // self.count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a shard is."""

    source: str  # what is worked through: another source, or other rows in it, is another piece of work
    rows: int  # of the whole table
    done: int = 0  # of the shard
    counts: dict[str, int] = field(default_factory=dict)  # what became of them

    def advanced(self, rows: int, outcomes: Sequence[str]) -> Mark:
        """After `rows` more with these outcomes."""
        counts = dict(self.counts)
        for outcome in outcomes:
            counts[outcome] = counts.get(outcome, 0) + 1
        return replace(self, done=self.done + rows, counts=counts)


class Progress:
    """The mark of a shard in a file below `folder`, replaced whole."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        self._path = folder / f"shard-{shard.index:05d}-of-{shard.count:05d}.json"

    def read(self, source: str, rows: int) -> Mark:
        """Where an earlier attempt was; the start for the first. Raises FailedPrecondition for the mark of other work."""
        try:
            mark = Mark(**json.loads(self._path.read_text()))
        except FileNotFoundError:
            return Mark(source, rows)
        if (mark.source, mark.rows) != (source, rows):
            message = f"{self._path} is of {mark.rows:,} rows of {mark.source}; take another folder for other work"
            raise FailedPrecondition(message, reason="OTHER_WORK")
        return mark

    def write(self, mark: Mark) -> None:
        """Durable when it returns."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        with partial.open("w") as file:
            json.dump(asdict(mark), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)


class Table:
    """Parquet files as one table."""

    def __init__(self, source: Path, columns: Sequence[str], maybe: Sequence[str] = ()) -> None:
        """A file, or a folder of *.parquet; the columns `maybe` are read where a file has them.

        Raises NotFound, and InvalidArgument for a file that lacks one of `columns`.
        """
        self._columns = [*columns, *maybe]  # reading passes over one that a file lacks
        paths = sorted(source.glob("*.parquet")) if source.is_dir() else [source]
        if not paths or not paths[0].is_file():
            raise NotFound("Parquet file", str(source))
        self._files = [pq.ParquetFile(path) for path in paths]
        for path, file in zip(paths, self._files, strict=True):
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                raise InvalidArgument("source", f"{path.name} has no column {', '.join(missing)}")
        self.rows = sum(file.metadata.num_rows for file in self._files)

    def read(self, span: range) -> Iterator[dict[str, Any]]:
        """The rows of `span`, in order."""
        start = 0
        for file in self._files:
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                wanted = range(max(span.start, start), min(span.stop, end))
                if wanted:
                    rows = file.read_row_group(group, columns=self._columns)
                    yield from rows.slice(wanted.start - start, len(wanted)).to_pylist()
                start = end
