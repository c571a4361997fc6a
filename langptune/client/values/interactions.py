"""What users did, and what became of it when it was recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass

from langptune.convert import item_from_catalogue, timestamp
from langptune.domain import Interaction
from langptune.v1 import common_pb2, gateway_pb2


@dataclass(frozen=True, slots=True)
class NewInteraction:
    """An interaction to be recorded; the item is named by its id alone."""

    item_id: str
    rating: float  # stars, 0.0 to 5.0
    review: str = ""
    time_ms: int | None = None  # None is now


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of recorded interactions."""

    recorded: int
    unchanged: int  # were there already
    history_size: int
    refresh_pending: bool = False  # whether a refresh of the profile waits or is under way


def interaction_from_proto(message: common_pb2.Interaction) -> Interaction:
    """An interaction with its item whole."""
    return Interaction(item_from_catalogue(message.item), message.rating, message.review, message.time.ToMilliseconds())


def new_interaction_to_proto(entry: Interaction | NewInteraction, *, stamped: bool = True) -> common_pb2.Interaction:
    """An interaction to be recorded: of its item only the id is sent. One without a time is of now, by our clock if `stamped`."""
    item_id = entry.item.item_id if isinstance(entry, Interaction) else entry.item_id
    message = common_pb2.Interaction(item=common_pb2.Item(item_id=item_id), rating=entry.rating, review=entry.review)
    if entry.time_ms is not None or stamped:
        time_ms = time.time_ns() // 1_000_000 if entry.time_ms is None else entry.time_ms
        message.time.CopyFrom(timestamp(time_ms))
    return message


def recorded_from_proto(message: gateway_pb2.RecordInteractionsResponse) -> Recorded:
    return Recorded(message.recorded, message.unchanged, message.history_size, message.refresh_pending)
