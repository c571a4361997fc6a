"""Whether a text stands anywhere in a Redis: in the name of a key, or in what it holds, whatever its type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis.asyncio import Redis


async def keys_with(client: Redis, texts: Iterable[str]) -> dict[str, str]:
    """The keys whose name or value has one of `texts`, each with the first that it has."""
    wanted = [text.encode() for text in texts]
    found: dict[str, str] = {}
    async for key in client.scan_iter(count=1_000):
        held = b"\n".join([key, *_flat(await _value(client, key))])
        for text in wanted:
            if text in held:
                found.setdefault(key.decode(), text.decode())
    return found


async def _value(client: Redis, key: bytes) -> Any:
    kind = (await client.type(key)).decode()
    match kind:
        case "string":
            return await client.get(key)
        case "hash":
            return await client.hgetall(key)  # type: ignore[misc]  # of either kind of client
        case "list":
            return await client.lrange(key, 0, -1)  # type: ignore[misc]  # of either kind of client
        case "set":
            return await client.smembers(key)  # type: ignore[misc]  # of either kind of client
        case "zset":
            return await client.zrange(key, 0, -1)
        case "stream":
            return await client.xrange(key)
        case _:
            raise AssertionError(f"a key of type {kind}")


def _flat(value: Any) -> Iterable[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, dict):
        yield from _flat([*value.keys(), *value.values()])
    elif isinstance(value, list | tuple | set):
        for each in value:
            yield from _flat(each)
