"""Users' histories with whole items: what was said from Redis, what it was said of from the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from langptune.domain import Interaction, Item
from langptune.text import item_text
from services.gateway.interactions.store import Entry, Interactions, token_after
from services.gateway.peers.decoder import Decoder

_MESSAGE = 8 << 20  # bytes of UTF-8 that the texts of one message may have, about


class Histories:
    """Users' histories with whole items, as much of them as a message holds."""

    def __init__(self, interactions: Interactions, decoder: Decoder) -> None:
        self._interactions = interactions
        self._decoder = decoder

    async def latest(self, user_id: str, size: int, as_of_ms: int | None = None) -> list[Interaction]:
        """The newest `size` interactions, oldest first; those whose item the catalogue has no more are left out.

        With `as_of_ms`, nothing that happened later.
        """
        return await self._whole(await self._interactions.latest(user_id, size, as_of_ms))

    async def named(self, user_id: str, keys: Sequence[str]) -> list[Interaction]:
        """The interactions of these keys, in order (oldest first), as far as they and their items are there still."""
        return await self._whole(await self._interactions.named(user_id, keys))

    async def _whole(self, entries: Sequence[Entry]) -> list[Interaction]:
        """The newest of `entries` (oldest first) that fit a message, with their items."""
        items = await self._decoder.items(entry.item_id for entry in entries)
        known = [(entry, items[entry.item_id]) for entry in reversed(entries) if entry.item_id in items]
        return [entry.on(item) for entry, item in reversed(known[: _fitting(known)])]

    async def page(self, user_id: str, size: int, token: str) -> tuple[list[tuple[Entry, Item | None]], str, int]:
        """As `Interactions.page`, each entry with its item (None if the catalogue has it no more); may be less than `size`."""
        entries, token, total = await self._interactions.page(user_id, size, token)
        items = await self._decoder.items(entry.item_id for entry in entries)
        found = [(entry, items.get(entry.item_id)) for entry in entries]
        fitting = _fitting(found)
        return found[:fitting], token_after(entries[fitting - 1]) if fitting < len(found) else token, total


def _fitting(found: Sequence[tuple[Entry, Item | None]]) -> int:
    """How many of `found` go into one message; one at least."""
    room = _MESSAGE
    for position, (entry, item) in enumerate(found):
        room -= len(entry.review.encode()) + (len(item_text(item).encode()) if item else 0)
        if room < 0:
            return max(1, position)
    return len(found)
