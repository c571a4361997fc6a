"""Page tokens of rankings: a place, bound to the question and the version that it was given out for."""

from __future__ import annotations

import base64
import binascii
import hashlib

from langptune.errors import InvalidArgument
from langptune.v1 import decoder_pb2

MAX_DEPTH = 10_000  # places that can be paged through


def read_token(request: decoder_pb2.RankRequest) -> int:
    """Places before the page that is asked for. Raises InvalidArgument for a token that this question was not given."""
    if not request.page_token:
        return 0
    try:
        raw = base64.b64decode(request.page_token, altchars=b"-_", validate=True).decode()
        offset, _, question = raw.partition(" ")
        if question == _question(request) and offset.isdecimal() and int(offset) < MAX_DEPTH:
            return int(offset)
    except (binascii.Error, ValueError):
        pass
    raise InvalidArgument("page_token", "belongs to another question or version; begin again without one")


def next_token(request: decoder_pb2.RankRequest, offset: int) -> str:
    """The token for the page from place `offset` + 1 on; "" beyond the places that can be paged through."""
    if offset >= MAX_DEPTH:
        return ""
    return base64.urlsafe_b64encode(f"{offset} {_question(request)}".encode()).decode()


def _question(request: decoder_pb2.RankRequest) -> str:
    """A digest of everything but the page and its size."""
    bare = decoder_pb2.RankRequest()
    bare.CopyFrom(request)
    bare.ClearField("page_token")
    bare.ClearField("k")
    return hashlib.blake2b(bare.SerializeToString(deterministic=True), digest_size=12).hexdigest()
