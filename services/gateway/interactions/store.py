"""What users did, in Redis: a capped history per user, and how many users chose each item.

Per user: `order` (sorted set of entry keys by time), `entries` (entry key -> rating and review) and `items` (item id -> entries).
An entry key is "<time_ms> <item_id>", which makes recording idempotent. Beyond the cap the oldest entries go, and a full history
takes nothing older than what it holds. Popularity counts the users whose history has the item; it changes in the same script as
the history, so the two never disagree; so does the queue of profiles to be refreshed (services/gateway/refresh/queue.py). Also
per user: the outcomes of the last named requests, so that a request can be sent again. Whether an item exists is not known here.
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
from langptune.errors import AlreadyExists, InvalidArgument
from langptune.state import Read
from services.gateway.paging import bad_token, from_token, to_token
from services.gateway.refresh.scripts import ENQUEUE, STREAM, state_key

MAX_RECORDED = 1_000  # interactions in one call
_FUTURE_MS = 86_400_000  # a clock may be a day ahead
_POPULARITY = "langptune:popularity"
_USERS = "langptune:users-with-history"
_REQUESTS_KEPT = 1_000  # of a user
_REQUESTS_SECONDS = 7 * 86_400

# KEYS: order, entries, items, popularity, users, refresh state, refresh queue, requests, their order. ARGV: cap, user, how many
# new ones are enough for a refresh (0: never), request id ("" for none), digest of the request, then time, item, payload of each.
# Returns recorded, unchanged, size, whether a refresh is pending; of a request that is known its digest and these, as one text.
_RECORD = f"""{ENQUEUE}
if ARGV[4] ~= '' then
  local known = redis.call('HGET', KEYS[8], ARGV[4])
  if known then return known end
end
local size = redis.call('ZCARD', KEYS[1])
local new_user = size == 0
local recorded, unchanged = 0, 0
for at = 6, #ARGV, 3 do
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
if recorded > 0 then
  local fresh = redis.call('HINCRBY', KEYS[6], 'fresh', recorded)
  if tonumber(ARGV[3]) > 0 and fresh >= tonumber(ARGV[3]) then enqueue(KEYS[7], KEYS[6], ARGV[2]) end
end
local job = redis.call('HGET', KEYS[6], 'job')
local pending = (job and job ~= 'dead') and 1 or 0
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[8], ARGV[4], table.concat({{ARGV[5], recorded, unchanged, size, pending}}, ' '))
  if redis.call('RPUSH', KEYS[9], ARGV[4]) > {_REQUESTS_KEPT} then
    redis.call('HDEL', KEYS[8], redis.call('LPOP', KEYS[9]))
  end
  redis.call('EXPIRE', KEYS[8], {_REQUESTS_SECONDS})
  redis.call('EXPIRE', KEYS[9], {_REQUESTS_SECONDS})
end
return {{recorded, unchanged, size, pending}}
"""

# KEYS: order, entries, items, popularity, users, requests, their order. Returns the size that the history had.
_FORGET = """
local size = redis.call('ZCARD', KEYS[1])
for _, item in ipairs(redis.call('HKEYS', KEYS[3])) do
  if tonumber(redis.call('ZINCRBY', KEYS[4], -1, item)) <= 0 then redis.call('ZREM', KEYS[4], item) end
end
if size > 0 then redis.call('DECR', KEYS[5]) end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[6], KEYS[7])
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
    refresh_pending: bool = False


@dataclass(frozen=True, slots=True)
class RequestName:
    """What a caller calls a request, so that it can be sent again."""

    request_id: str  # empty: it has no name
    digest: str = ""  # of what it asks for


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

    async def record(
        self, histories: Mapping[str, Sequence[Entry]], *, refresh_after: int = 0, name: RequestName = RequestName("")
    ) -> dict[str, Outcome]:
        """Add to several users' histories; each user's entries are added whole or not at all.

        Queues a refresh, in the same step, once `refresh_after` are new since the last one (0: never). A request whose name is
        known has its first outcome; raises AlreadyExists when the name was another's.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for user_id, entries in histories.items():
                arguments: list[str | int] = [self._kept, user_id, refresh_after, name.request_id, name.digest]
                for entry in entries:
                    said = json.dumps({"rating": entry.rating, "review": entry.review})
                    arguments += (entry.time_ms, entry.item_id, said)
                keys = [*_keys(user_id), _POPULARITY, _USERS, state_key(user_id), STREAM, *_request_keys(user_id)]
                await self._record(keys=keys, args=arguments, client=pipe)
            outcomes = await pipe.execute()
        return {user_id: _outcome(outcome, name) for user_id, outcome in zip(histories, outcomes, strict=True)}

    async def forget(self, user_id: str) -> int:
        """Remove the user's history, and the user from the popularity of its items; returns how long it was."""
        return int(await self._forget(keys=[*_keys(user_id), _POPULARITY, _USERS, *_request_keys(user_id)]))

    async def latest(self, user_id: str, size: int, as_of_ms: int | None = None) -> list[Entry]:
        """The newest `size` entries, oldest first; with `as_of_ms` of those that had happened by then."""
        if as_of_ms is None:
            return (await self._read(user_id, 0, size))[::-1]
        keys: Any = await self._redis.zrange(_keys(user_id)[0], as_of_ms, "-inf", desc=True, byscore=True, offset=0, num=size)
        return (await self.named(user_id, [key.decode() for key in keys]))[::-1]

    async def named(self, user_id: str, keys: Sequence[str]) -> list[Entry]:
        """The entries of these keys, in order; those that are not kept any more are left out."""
        said: Any = await self._redis.hmget(_keys(user_id)[1], list(keys)) if keys else []
        return [_entry(key, value) for key, value in zip(keys, said, strict=True) if value is not None]

    def item_ids(self, user_id: str) -> Read[list[str]]:
        """The items of the user's history, each once."""
        return Read(("HKEYS", _keys(user_id)[2]), lambda found: [item.decode() for item in found])

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

    async def popular(self, size: int, start: int = 0) -> list[tuple[str, float]]:
        """The `size` items that most users chose, less the first `start`, and the share of all users with a history who did."""
        users = int(await self._redis.get(_USERS) or 0)
        found: Any = await self._redis.zrange(_POPULARITY, start, start + size - 1, desc=True, withscores=True)
        return [(item.decode(), count / max(1, users)) for item, count in found]

    async def _read(self, user_id: str, start: int, size: int) -> list[Entry]:
        keys: Any = await self._redis.zrange(_keys(user_id)[0], start, start + size - 1, desc=True)
        return await self.named(user_id, [key.decode() for key in keys])


def _outcome(found: bytes | Sequence[int], name: RequestName) -> Outcome:
    if isinstance(found, bytes):
        digest, *counts = found.decode().split()
        if digest != name.digest:
            message = f"the request {name.request_id!r} was other interactions; give these another name"
            raise AlreadyExists(message, reason="REQUEST_ID_TAKEN", metadata={"request_id": name.request_id})
        found = [int(count) for count in counts]
    recorded, unchanged, size, pending = found
    return Outcome(recorded, unchanged, size, bool(pending))


def _entry(key: str, stored: bytes) -> Entry:
    moment, item_id = key.split(" ")
    said = json.loads(stored)
    return Entry(item_id, said["rating"], said["review"], int(moment))


def key_of(interaction: Interaction) -> str:
    """The key of the entry that an interaction was made from."""
    return f"{interaction.time_ms} {interaction.item.item_id}"


def token_after(entry: Entry) -> str:
    """The page token that continues after `entry`."""
    return to_token(f"{entry.time_ms} {entry.item_id}")


def _request_keys(user_id: str) -> list[str]:
    return [f"langptune:history-{part}:{user_id}" for part in ("requests", "request-order")]


def _keys(user_id: str) -> list[str]:
    user = check_id("user_id", user_id)
    return [f"langptune:history-{part}:{user}" for part in ("order", "entries", "items")]
