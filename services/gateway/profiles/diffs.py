"""What changed between two texts, word by word: the shortest way from one to the other by leaving out and putting in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from rapidfuzz.distance import Indel

_WORD = re.compile(r"\S+\s*|\s+")


class DiffKind(StrEnum):
    """What became of a piece of text."""

    KEPT = "kept"
    REMOVED = "removed"
    ADDED = "added"


@dataclass(frozen=True, slots=True)
class DiffPart:
    """Neighbouring words with the same fate, and the white space behind them."""

    kind: DiffKind
    text: str


def diff(before: str, after: str) -> list[DiffPart]:
    """In reading order; KEPT and REMOVED together are `before`, KEPT and ADDED together are `after`."""
    return list(_joined(before, after))


def _joined(before: str, after: str) -> Iterator[DiffPart]:
    old, new = _WORD.findall(before), _WORD.findall(after)
    for step in Indel.opcodes(old, new):
        if step.tag == "equal":
            yield DiffPart(DiffKind.KEPT, "".join(old[step.src_start : step.src_end]))
        elif step.tag == "delete":
            yield DiffPart(DiffKind.REMOVED, "".join(old[step.src_start : step.src_end]))
        else:
            yield DiffPart(DiffKind.ADDED, "".join(new[step.dest_start : step.dest_end]))
