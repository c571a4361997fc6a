"""A profile at one revision, what it is before it is stored, the suggestion beside it, and which text may stand in them."""

from __future__ import annotations

import json
import re
import secrets
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Self

from langptune.convert import check_text
from services.gateway.live import Pins

MAX_PROFILE = 10_000  # characters
# What str.strip takes off, without the control characters.
_WHITE = " \t\n\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_LINE_ENDS = re.compile("\r\n|\r|\u2028|\u2029")


class Origin(StrEnum):
    """Who made a revision."""

    GENERATED = "generated"
    EDITED = "edited"
    RESTORED = "restored"
    SUGGESTED = "suggested"


@dataclass(frozen=True, slots=True)
class Draft:
    """A revision that is not stored yet."""

    text: str
    origin: Origin
    pins: Pins
    interactions: int = 0
    own_words: bool = False  # the user's, not the encoder's: not to be overwritten unasked
    sources: Sequence[str] = ()  # keys of the interactions that it was written from, oldest first


@dataclass(frozen=True, slots=True)
class Revision:
    """A user's profile at one revision."""

    user_id: str
    revision: int  # from 1
    etag: str
    create_time_ms: int
    text: str
    origin: Origin
    pins: Pins = field(default_factory=Pins)
    interactions: int = 0
    own_words: bool = False

    @classmethod
    def loaded(cls, stored: bytes | str) -> Self:
        """The inverse of `dumped`."""
        fields = json.loads(stored)
        return cls(**{**fields, "origin": Origin(fields["origin"]), "pins": Pins(**fields["pins"])})

    def dumped(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What the encoder would write, beside a profile in the user's own words."""

    text: str
    pins: Pins
    interactions: int
    create_time_ms: int
    sources: Sequence[str] = ()  # as a draft's

    @classmethod
    def loaded(cls, stored: bytes | str) -> Self:
        """The inverse of `dumped`."""
        fields = json.loads(stored)
        return cls(**{**fields, "pins": Pins(**fields["pins"]), "sources": tuple(fields.get("sources", ()))})

    def dumped(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


def following(user_id: str, current: Revision | None, draft: Draft) -> Revision:
    """The revision that `draft` becomes behind `current`, with an etag and a moment of its own."""
    number = current.revision + 1 if current else 1
    return Revision(
        user_id=user_id,
        revision=number,
        etag=f"{number}-{secrets.token_hex(8)}",
        create_time_ms=time.time_ns() // 1_000_000,
        text=draft.text,
        origin=draft.origin,
        pins=draft.pins,
        interactions=draft.interactions,
        own_words=draft.own_words,
    )


def normalise(text: str) -> str:
    """NFC, line ends as \\n, no white space at the ends. Raises InvalidArgument for what is no text of 1 to 10,000 characters."""
    plain = _LINE_ENDS.sub("\n", unicodedata.normalize("NFC", text)).strip(_WHITE)
    return check_text("text", plain, low=1, high=MAX_PROFILE)
