"""The gateway's values to proto messages."""

from __future__ import annotations

from langptune.convert import check_time, item_to_proto, timestamp
from langptune.domain import Item
from langptune.v1 import common_pb2, gateway_pb2
from services.gateway.interactions import Entry, checked_entry
from services.gateway.profiles import Pins, Revision


def entry_from_proto(message: common_pb2.Interaction, field: str = "") -> Entry:
    """An interaction to be recorded. Raises InvalidArgument with paths below `field`."""
    moment = check_time(f"{field}time", message.time) if message.HasField("time") else None
    return checked_entry(message.item.item_id, message.rating, message.review, moment, field)


def entry_to_proto(entry: Entry, item: Item | None) -> common_pb2.Interaction:
    """An entry with its item whole, or with the id alone if the catalogue has it no more."""
    whole = item_to_proto(item) if item else common_pb2.Item(item_id=entry.item_id)
    return common_pb2.Interaction(item=whole, rating=entry.rating, review=entry.review, time=timestamp(entry.time_ms))


def pins_to_proto(pins: Pins) -> common_pb2.Versions:
    return common_pb2.Versions(
        encoder_version=pins.encoder_version, decoder_version=pins.decoder_version, release_id=pins.release_id
    )


def profile_to_proto(revision: Revision) -> gateway_pb2.Profile:
    return gateway_pb2.Profile(
        user_id=revision.user_id,
        text=revision.text,
        revision=revision.revision,
        etag=revision.etag,
        origin=gateway_pb2.ProfileOrigin.Value(f"PROFILE_ORIGIN_{revision.origin.name}"),
        versions=pins_to_proto(revision.pins),
        create_time=timestamp(revision.create_time_ms),
        interactions=revision.interactions,
    )
