"""An append-only file of JSON lines: every record is on the disk before anybody is told that it was taken.

One process writes, one record at a time. A last line that a crash cut in two is dropped when the file is opened again; anything
else that cannot be read is an error. Both the answers of judges and the events of the survey are kept like this.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from langptune.errors import FailedPrecondition


class Journal:
    """The journal at `path`, opened for appending. Raises FailedPrecondition if it cannot be, or holds what is no record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            self._file.seek(0)
            content = self._file.read()
            whole = content[: content.rfind(b"\n") + 1]
            self._file.truncate(len(whole))
        except OSError as error:
            raise FailedPrecondition(f"{path} cannot be written: {error.strerror}", reason="STORAGE") from error
        self.records = list(_records(path, whole))  # what was there when it was opened

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record and wait for the disk. Raises FailedPrecondition if it does not take it."""
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise FailedPrecondition(f"{self.path} cannot be written: {error.strerror}", reason="STORAGE") from error

    def close(self) -> None:
        """No more records."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The records at `path`, which somebody may be writing to; empty if there is no such file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    return list(_records(path, content[: content.rfind(b"\n") + 1]))


def _records(path: Path, content: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(content.splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise FailedPrecondition(f"{path}, line {number} is no record: {error}", reason="JOURNAL") from error
        if not isinstance(record, dict):
            raise FailedPrecondition(f"{path}, line {number} is no record", reason="JOURNAL")
        yield record
