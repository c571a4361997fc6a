"""Reading raw Amazon-Reviews-2023 files: JSON lines, plain or gzip, a few megabytes at a time, with exact line numbers.

The fast path decodes a whole chunk at once into typed records; only a chunk that does not decode, or that has blank lines,
is gone through line by line. Nothing is kept here but one chunk.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from langptune.data.columns import Ints
from langptune.errors import FailedPrecondition, InvalidArgument, NotFound

CHUNK_BYTES = 4 << 20
MAX_LINE_BYTES = 16 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_YEAR_10000_MS = 253_402_300_800_000

Stars = Annotated[float, Meta(ge=0, le=5)]
Milliseconds = Annotated[int, Meta(ge=0, lt=_YEAR_10000_MS)]
Progress = Callable[[str, int, int], None]  # (stage, done, total), in bytes as they lie on disk


class Review(msgspec.Struct, gc=False):
    """The fields of a review line that are used; others are ignored."""

    user_id: str | None = None
    parent_asin: str | None = None
    rating: Stars | None = None
    timestamp: Milliseconds | None = None
    text: str | None = None


class Metadata(msgspec.Struct, gc=False):
    """The fields of a metadata line that are used; others are ignored."""

    parent_asin: str | None = None
    title: str | None = None
    average_rating: Stars | None = None
    description: list[str | None] | str | None = None
    categories: list[str | None] | str | None = None
    price: Annotated[float, Meta(ge=0)] | str | None = None


RecordT = TypeVar("RecordT", Review, Metadata)


@dataclass(frozen=True, slots=True)
class Batch(Generic[RecordT]):
    """Records of consecutive lines of a file."""

    lines: Ints  # [n], 1-based
    records: list[RecordT]  # [n]
    malformed: int  # lines that were skipped


class RawFile(Generic[RecordT]):
    """One raw file that can be read several times. Raises NotFound if it is not there, FailedPrecondition if it is unreadable."""

    def __init__(self, path: str | Path, kind: type[RecordT], what: str, *, skip_malformed: bool, progress: Progress) -> None:
        self.path = Path(path)
        try:
            self.path.open("rb").close()
        except FileNotFoundError as error:
            raise NotFound(f"{what} file", str(path)) from error
        except OSError as error:
            raise FailedPrecondition(f"{path} cannot be read: {error}", reason="UNREADABLE_FILE") from error
        self._what = what
        self._skip_malformed = skip_malformed
        self._progress = progress
        self._decoder: msgspec.json.Decoder[RecordT] = msgspec.json.Decoder(kind)

    def fingerprint(self) -> dict[str, str]:
        """The file's name and the SHA-256 of its bytes as they lie on disk."""
        with self.path.open("rb") as file:
            return {"file": self.path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}

    def batches(self, stage: str) -> Iterator[Batch[RecordT]]:
        """All records, in file order. Raises InvalidArgument naming file and line at the first malformed line."""
        for first, count, chunk in self._chunks(stage):
            try:
                records = self._decoder.decode_lines(chunk)
            except (msgspec.DecodeError, UnicodeDecodeError):
                records = []
            if len(records) == count:
                yield Batch(np.arange(first, first + count), records, 0)
            else:
                yield self._batch_by_line(first, chunk)

    def records_at(self, stage: str, wanted: Ints) -> Iterator[RecordT]:
        """The records of the `wanted` lines, which must be ascending and must have come out of `batches`."""
        for first, count, chunk in self._chunks(stage):
            low, high = np.searchsorted(wanted, (first, first + count))
            if low == high:
                continue
            rows = chunk.split(b"\n")
            for number in wanted[low:high].tolist():
                yield self._decode(rows[number - first], number)

    def _batch_by_line(self, first: int, chunk: bytes) -> Batch[RecordT]:
        lines, records, malformed = [], [], 0
        for number, row in enumerate(chunk.split(b"\n"), first):
            if not row.strip():
                continue
            try:
                record = self._decode(row, number)
            except InvalidArgument:
                if not self._skip_malformed:
                    raise
                malformed += 1
            else:
                lines.append(number)
                records.append(record)
        return Batch(np.array(lines, dtype=np.int64), records, malformed)

    def _decode(self, row: bytes, number: int) -> RecordT:
        try:
            return self._decoder.decode(row)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._error(number, _explain(row, error)) from error

    def _error(self, number: int, problem: str) -> InvalidArgument:
        return InvalidArgument(self._what, f"{self.path}, line {number}: {problem}")

    def _chunks(self, stage: str) -> Iterator[tuple[int, int, bytes]]:
        """(number of the first line, how many lines, the lines); every line ends with a newline."""
        total = self.path.stat().st_size
        number, rest = 1, b""
        with self.path.open("rb") as raw:
            stream: IO[bytes] | gzip.GzipFile = raw
            if raw.read(2) == _GZIP_MAGIC:
                stream = gzip.GzipFile(fileobj=raw)
            raw.seek(0)
            while block := self._read(stream, number):
                self._progress(stage, raw.tell(), total)
                whole, newline, tail = block.rpartition(b"\n")
                if not newline:
                    rest += block
                    if len(rest) > MAX_LINE_BYTES:
                        raise self._error(number, f"is longer than {MAX_LINE_BYTES >> 20} MiB")
                    continue
                chunk = rest + whole + newline
                count = chunk.count(b"\n")
                yield number, count, chunk
                number, rest = number + count, tail
        if rest:
            yield number, 1, rest + b"\n"
        self._progress(stage, total, total)

    def _read(self, stream: IO[bytes] | gzip.GzipFile, number: int) -> bytes:
        try:
            return stream.read(CHUNK_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._error(number, f"the gzip data break off or are damaged at or after this line ({error})") from error
        except OSError as error:
            raise FailedPrecondition(f"{self.path} cannot be read: {error}", reason="UNREADABLE_FILE") from error


def _explain(row: bytes, error: Exception) -> str:
    """What is wrong with a line; NaN and Infinity, which are no JSON but which Python writes, are called by name."""
    strange: list[str] = []
    try:
        json.loads(row, parse_constant=lambda name: strange.append(name))
    except (ValueError, RecursionError):
        return str(error)
    return f"{strange[0]} is no number that a field may have" if strange else str(error)
