"""What a user says of single sentences: pinned ones stay when the profile is written again, those not true stay out.

Sentences are the same when they differ only in case, punctuation and white space. Another wording of the same claim is another
sentence: it is not known here what sentences mean.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from langptune.text import sentences

MARK = "mark:"  # begins the field of a mark in the profile's hash
_WORDS = re.compile(r"\w+")


class Mark(StrEnum):
    """What is said of a sentence."""

    PINNED = "pinned"
    NOT_TRUE = "not_true"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Marks:
    """All of a user's marks."""

    pinned: tuple[str, ...] = ()  # sentences, in alphabetical order
    not_true: tuple[str, ...] = ()

    @classmethod
    def loaded(cls, stored: Mapping[str, str]) -> Self:
        """From the fields of a profile's hash that begin with MARK."""
        said = [json.loads(value) for value in stored.values()]
        pinned, not_true = (
            sorted(one["sentence"] for one in said if one["mark"] == mark) for mark in (Mark.PINNED, Mark.NOT_TRUE)
        )
        return cls(tuple(pinned), tuple(not_true))

    def heeded(self, text: str) -> str:
        """What the encoder wrote, with the pinned sentences in front and without those that are not true; may be empty."""
        if not self.pinned and not self.not_true:
            return text
        known = {same(sentence) for sentence in (*self.pinned, *self.not_true)}
        return " ".join([*self.pinned, *(sentence for sentence in sentences(text) if same(sentence) not in known)])


def mark_field(sentence: str) -> str:
    """The field that holds the mark of `sentence`."""
    return MARK + hashlib.sha256(same(sentence).encode()).hexdigest()[:32]


def without(text: str, sentence: str) -> str | None:
    """`text` less its first sentence that is the same as `sentence`; None if it has none. Line breaks between others stay."""
    start = 0
    for each in sentences(text):
        start = text.index(each, start)
        if same(each) == same(sentence):
            before, after = text[:start].rstrip(" \t"), text[start + len(each) :].lstrip(" \t")
            glue = " " if before and after and not before.endswith("\n") and not after.startswith("\n") else ""
            return (before + glue + after).strip()
        start += len(each)
    return None


def same(sentence: str) -> str:
    """What equal sentences share."""
    return " ".join(_WORDS.findall(sentence.casefold())) or sentence.strip()
