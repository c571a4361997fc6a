"""A backup of everything that cannot be made anew, in one folder; and the way back into an empty system.

    state.jsonl.gz      every lasting key of Redis, as Redis dumps it: histories, profiles, jobs, releases
    items.jsonl.gz      the catalogue, an item a line in the JSON form of the proto
    weights/            the weights store, manifests last
    backup.json         counts and SHA-256 of each file; written last, so without it there is no backup

Taken from a living system through Redis, the gateway and the store, whatever machines they are on. Each key is one moment; two
keys may be a moment apart, so of an interaction that is recorded meanwhile the count of its item's users may be off by one. Keys
that expire (leases, limits) are left out, and so are indexes, which are made from catalogue and weights, and checkpoints. For
sizes at which this takes too long docs/operations.md has the servers' own ways.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fsspec
import redis.asyncio as redis
from google.protobuf import json_format
from redis.exceptions import ResponseError

from langptune.convert import item_from_catalogue, item_to_proto
from langptune.domain import Item
from langptune.errors import FailedPrecondition
from langptune.v1 import common_pb2

_STATE, _ITEMS, _WEIGHTS, _SUMMARY = "state.jsonl.gz", "items.jsonl.gz", "weights", "backup.json"
_OURS = "langptune:*"
_PAGE = 500  # keys of one round trip
_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Summary:
    """What a backup holds."""

    keys: int
    items: int
    weights_files: int
    sha256: dict[str, str]  # of each file, by its path in the folder


async def take(folder: Path, state: redis.Redis, items: AsyncIterator[Item], weights_uri: str) -> Summary:
    """Write a backup. Raises FailedPrecondition for a folder that is not empty, and redis errors as they are.

    Weights are read last: whatever release the state speaks of has its versions by then.
    """
    _make_empty(folder)
    count = 0
    with gzip.open(folder / _ITEMS, "wt", encoding="utf-8") as file:
        async for item in items:
            file.write(json_format.MessageToJson(item_to_proto(item), indent=None) + "\n")
            count += 1
    keys = await _dump(state, folder / _STATE)
    files = await asyncio.to_thread(_copy_weights, weights_uri, str(folder / _WEIGHTS))
    summary = Summary(keys, count, files, await asyncio.to_thread(_sums, folder))
    await asyncio.to_thread((folder / _SUMMARY).write_text, json.dumps(asdict(summary), indent=2))
    return summary


def check(folder: Path) -> Summary:
    """The summary of a backup all of whose files are there and whole. Raises FailedPrecondition for any other."""
    try:
        summary = Summary(**json.loads((folder / _SUMMARY).read_text()))
    except FileNotFoundError:
        raise FailedPrecondition(f"{folder} holds no complete backup", reason="NO_BACKUP") from None
    for name, expected in summary.sha256.items():
        if not (folder / name).is_file() or _sha256(folder / name) != expected:
            raise FailedPrecondition(f"{folder / name} is not what was backed up", reason="DAMAGED")
    return summary


async def restore(folder: Path, state: redis.Redis, weights_uri: str) -> Summary:
    """Weights, then state, into an empty Redis, with no service running. The catalogue follows: see `read_items`.

    Raises FailedPrecondition for a damaged backup, and for a Redis that has state already, or is older than the one backed up.
    """
    summary = await asyncio.to_thread(check, folder)
    async for _ in state.scan_iter(match=_OURS, count=_PAGE):
        raise FailedPrecondition("this Redis has state of LangPTune already; restore into an empty one", reason="NOT_EMPTY")
    await asyncio.to_thread(_copy_weights, str(folder / _WEIGHTS), weights_uri)
    try:
        await _load(state, folder / _STATE)
    except ResponseError as error:
        raise FailedPrecondition(f"this Redis does not take the backup: {error}", reason="REDIS_TOO_OLD") from None
    return summary


def read_items(folder: Path) -> Iterator[Item]:
    """The catalogue of a backup, to be imported once the services run."""
    with gzip.open(folder / _ITEMS, "rt", encoding="utf-8") as file:
        for line in file:
            yield item_from_catalogue(json_format.Parse(line, common_pb2.Item()))


def _make_empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise FailedPrecondition(f"{folder} is not empty", reason="NOT_EMPTY")
    folder.mkdir(parents=True, exist_ok=True)


def _sums(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


async def _dump(state: redis.Redis, target: Path) -> int:
    count = 0
    with gzip.open(target, "wt", encoding="utf-8") as file:
        async for page in _pages(state):
            async with state.pipeline(transaction=False) as pipe:
                for key in page:
                    pipe.pttl(key)
                    pipe.dump(key)
                answers: list[Any] = await pipe.execute()
            for key, lasts, content in zip(page, answers[::2], answers[1::2], strict=True):
                if lasts == -1 and content is not None:  # -1: no end is set; None: it has gone since
                    file.write(json.dumps({"key": _text(key), "dump": _text(content)}) + "\n")
                    count += 1
    return count


async def _pages(state: redis.Redis) -> AsyncIterator[list[bytes]]:
    """All keys of ours, each once."""
    seen: set[bytes] = set()
    page: list[bytes] = []
    async for key in state.scan_iter(match=_OURS, count=_PAGE):
        if key in seen:
            continue
        seen.add(key)
        page.append(key)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page


async def _load(state: redis.Redis, source: Path) -> None:
    with gzip.open(source, "rt", encoding="utf-8") as file:
        async with state.pipeline(transaction=False) as pipe:
            for number, line in enumerate(file, start=1):
                entry = json.loads(line)
                pipe.restore(base64.b64decode(entry["key"]), 0, base64.b64decode(entry["dump"]))
                if number % _PAGE == 0:
                    await pipe.execute()
            await pipe.execute()


def _copy_weights(source: str, target: str) -> int:
    """Every file, a version's manifest after its others: whoever reads the target meanwhile sees only whole versions."""
    read, read_root = fsspec.core.url_to_fs(source)
    write, write_root = fsspec.core.url_to_fs(target)
    names = [path.removeprefix(read_root).lstrip("/") for path in read.find(read_root)] if read.exists(read_root) else []
    for name in sorted(names, key=lambda name: (name.endswith(_MANIFEST), name)):
        place = f"{write_root}/{name}"
        write.makedirs(place.rpartition("/")[0], exist_ok=True)
        with read.open(f"{read_root}/{name}", "rb") as given, write.open(place, "wb") as taken:
            while block := given.read(1 << 24):
                taken.write(block)
    return len(names)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
