"""Entries of a history from and to proto messages."""

from __future__ import annotations

import hashlib

from langptune.convert import check_id, check_time, item_to_proto, timestamp
from langptune.domain import Item
from langptune.v1 import common_pb2, gateway_pb2
from services.gateway.interactions.store import Entry, RequestName, checked_entry


def entry_from_proto(message: common_pb2.Interaction, field: str = "") -> Entry:
    """An interaction to be recorded. Raises InvalidArgument with paths below `field`."""
    moment = check_time(f"{field}time", message.time) if message.HasField("time") else None
    return checked_entry(message.item.item_id, message.rating, message.review, moment, field)


def request_name(request: gateway_pb2.RecordInteractionsRequest) -> RequestName:
    """What the caller calls the request, and a digest of what it asks for. Raises InvalidArgument for a bad name."""
    if not request.request_id:
        return RequestName("")
    asked = b"".join(entry.SerializeToString(deterministic=True) for entry in request.interactions)
    return RequestName(check_id("request_id", request.request_id), hashlib.blake2b(asked, digest_size=16).hexdigest())


def entry_to_proto(entry: Entry, item: Item | None) -> common_pb2.Interaction:
    """An entry with its item whole, or with the id alone if the catalogue has it no more."""
    whole = item_to_proto(item) if item else common_pb2.Item(item_id=entry.item_id)
    return common_pb2.Interaction(item=whole, rating=entry.rating, review=entry.review, time=timestamp(entry.time_ms))
