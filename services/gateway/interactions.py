"""What users did, in Redis: a capped history per user, and how many users chose each item.

Per user: `order` (sorted set of entry keys by time), `entries` (entry key -> rating and review) and `items` (item id -> entries).
An entry key is "<time_ms> <item_id>", which makes recording idempotent. Beyond the cap the oldest entries go, and a full history
takes nothing older than what it holds. Popularity counts the users whose history has the item; it changes in the same script as
the history, so the two never disagree. Whether an item exists is not known here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio as redis

from langptune.convert import check_id, check_number, check_range, check_text
from langptune.domain import Interaction, Item
from langptune.errors import InvalidArgument
from services.gateway.paging import bad_token, from_token, to_token

MAX_RECORDED = 1_000  # interactions in one call
_FUTURE_MS = 86_400_000  # a clock may be a day ahead
_POPULARITY = "langptune:popularity"
_USERS = "langptune:users-with-history"

# KEYS: order, entries, items, popularity, users. ARGV: cap, then time, item, payload of each. Returns recorded, unchanged, size.
_RECORD = """
local size = redis.call('ZCARD', KEYS[1])
local new_user = size == 0
local recorded, unchanged = 0, 0
for at = 2, #ARGV, 3 do
  local item = ARGV[at + 1]
  local entry = ARGV[at] .. ' ' .. item
  if redis.call('HSETNX', KEYS[2], entry, ARGV[at + 2]) == 0 then
    unchanged = unchanged + 1
  else
    redis.call('ZADD', KEYS[1], ARGV[at], entry)
    if redis.call('HINCRBY', KEYS[3], item, 1) == 1 then redis.call('ZINCRBY', KEYS[4], 1, item) end
    size = size + 1
    local dropped = nil
    if size > tonumber(ARGV[1]) then
      dropped = redis.call('ZPOPMIN', KEYS[1])[1]
      local old = string.match(dropped, ' (.*)$')
      redis.call('HDEL', KEYS[2], dropped)
      if redis.call('HINCRBY', KEYS[3], old, -1) == 0 then
        redis.call('HDEL', KEYS[3], old)
        if tonumber(redis.call('ZINCRBY', KEYS[4], -1, old)) == 0 then redis.call('ZREM', KEYS[4], old) end
      end
      size = size - 1
    end
    if dropped == entry then unchanged = unchanged + 1 else recorded = recorded + 1 end
  end
end
if new_user and size > 0 then redis.call('INCR', KEYS[5]) end
return {recorded, unchanged, size}
"""

# KEYS: order, entries, items, popularity, users. Returns the size that the history had.
_FORGET = """
local size = redis.call('ZCARD', KEYS[1])
for _, item in ipairs(redis.call('HKEYS', KEYS[3])) do
  if tonumber(redis.call('ZINCRBY', KEYS[4], -1, item)) <= 0 then redis.call('ZREM', KEYS[4], item) end
end
if size > 0 then redis.call('DECR', KEYS[5]) end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
return size
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """An interaction by reference: what the user said, and of which item."""

    item_id: str
    rating: float
    review: str
    time_ms: int

    def on(self, item: Item) -> Interaction:
        """The interaction with its item whole."""
        return Interaction(item, self.rating, self.review, self.time_ms)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of recorded entries."""

    recorded: int
    unchanged: int
    history_size: int


def checked_entry(item_id: str, rating: float, review: str, time_ms: int | None, field: str = "") -> Entry:
    """An entry of these values; None is now. Raises InvalidArgument with paths below `field` ("interactions[2].")."""
    now = time.time_ns() // 1_000_000
    moment = now if time_ms is None else time_ms
    if not 0 <= moment <= now + _FUTURE_MS:
        raise InvalidArgument(f"{field}time", "must lie between 1970 and a day from now")
    return Entry(
        item_id=check_id(f"{field}item.item_id", item_id),
        rating=check_number(f"{field}rating", rating, 0.0, 5.0),
        review=check_text(f"{field}review", review),
        time_ms=moment,
    )


class Interactions:
    """All users' histories."""

    def __init__(self, client: redis.Redis, history_kept: int) -> None:
        self._redis = client
        self._kept = history_kept
        self._record = client.register_script(_RECORD)
        self._forget = client.register_script(_FORGET)

    async def record(self, histories: Mapping[str, Sequence[Entry]]) -> dict[str, Outcome]:
        """Add to several users' histories; each user's entries are added whole or not at all."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for user_id, entries in histories.items():
                arguments: list[str | int] = [self._kept]
                for entry in entries:
                    said = json.dumps({"rating": entry.rating, "review": entry.review})
                    arguments += (entry.time_ms, entry.item_id, said)
                await self._record(keys=[*_keys(user_id), _POPULARITY, _USERS], args=arguments, client=pipe)
            outcomes = await pipe.execute()
        return {user_id: Outcome(*outcome) for user_id, outcome in zip(histories, outcomes, strict=True)}

    async def forget(self, user_id: str) -> int:
        """Remove the user's history, and the user from the popularity of its items; returns how long it was."""
        return int(await self._forget(keys=[*_keys(user_id), _POPULARITY, _USERS]))

    async def latest(self, user_id: str, size: int) -> list[Entry]:
        """The newest `size` entries, oldest first."""
        return (await self._read(user_id, 0, size))[::-1]

    async def item_ids(self, user_id: str) -> list[str]:
        """The items of the user's history, each once."""
        found: Any = await self._redis.hkeys(_keys(user_id)[2])
        return [item.decode() for item in found]

    async def page(self, user_id: str, size: int, token: str) -> tuple[list[Entry], str, int]:
        """Up to `size` (1 to 1,000, 0 means 100) entries, newest first, the next page's token, and the size of the history."""
        size = check_range("page_size", size, 1, 1_000, default=100)
        order = _keys(user_id)[0]
        start = 0
        if after := from_token(token):
            rank: Any = await self._redis.zrevrank(order, after)
            if rank is None:
                raise bad_token()
            start = rank + 1
        total = int(await self._redis.zcard(order))
        entries = await self._read(user_id, start, size)
        more = entries and start + len(entries) < total
        return entries, token_after(entries[-1]) if more else "", total

    async def popular(self, size: int) -> list[tuple[str, float]]:
        """The `size` items that most users chose, and the share of all users with a history who did, best first."""
        users = int(await self._redis.get(_USERS) or 0)
        found: Any = await self._redis.zrange(_POPULARITY, 0, size - 1, desc=True, withscores=True)
        return [(item.decode(), count / max(1, users)) for item, count in found]

    async def _read(self, user_id: str, start: int, size: int) -> list[Entry]:
        order, entries, _ = _keys(user_id)
        keys: Any = await self._redis.zrange(order, start, start + size - 1, desc=True)
        found = [key.decode() for key in keys]
        said: Any = await self._redis.hmget(entries, found) if found else []
        return [_entry(key, value) for key, value in zip(found, said, strict=True) if value is not None]


def _entry(key: str, stored: bytes) -> Entry:
    moment, item_id = key.split(" ")
    said = json.loads(stored)
    return Entry(item_id, said["rating"], said["review"], int(moment))


def token_after(entry: Entry) -> str:
    """The page token that continues after `entry`."""
    return to_token(f"{entry.time_ms} {entry.item_id}")


def _keys(user_id: str) -> list[str]:
    user = check_id("user_id", user_id)
    return [f"langptune:history-{part}:{user}" for part in ("order", "entries", "items")]
