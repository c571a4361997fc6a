"""Work for everybody at once, shard by shard: every user's profile written, a huge catalogue imported and embedded.

Runs against the gateway's public RPCs, the same on a laptop (`--shard 0/1`) and in the pods of an Indexed Job. Doing a row twice
does no harm: a user whose profile, or suggestion, is of the encoder in force is passed over, and an item that is there unchanged
is told as such; so a shard that is cut off starts again at its last mark. A service that is full or away is waited for, for a
bounded time; then the shard ends with the error, and its next attempt goes on. Left out: who the users are - the table says it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from langptune.client import LangPTune
from langptune.data.dataset import ATTRIBUTES, ITEM_SCHEMA, item_from_row
from langptune.errors import (
    Aborted,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from langptune.operations.shards import Mark, Progress, Shard, Table

Answer = TypeVar("Answer")
OnProgress = Callable[[int, int], None]  # rows done of the shard, and rows of it

_LONGEST_PAUSE = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a shard's rows, over all attempts."""

    shard: str
    rows: int
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bulk:
    """One shard of one table against one gateway."""

    client: LangPTune
    source: Path
    shard: Shard
    progress: Path  # folder of marks
    batch: int  # rows between two marks
    in_flight: int = 8  # profiles asked for at once
    patience: float = 300.0  # seconds that a service which is full or away is waited for

    async def encoder_version(self) -> str:
        """Of the release in force."""
        return (await self._patiently(self.client.get_live_release)).encoder_version

    async def profiles(self, version: str, on_progress: OnProgress) -> Report:
        """Have encoder `version`, which must be in force, write the profile of every `user_id` of the table.

        Outcomes: written, suggested (beside the user's own words), current, without_history, refused.
        """
        places = asyncio.Semaphore(self.in_flight)

        async def one(user_id: str) -> str:
            async with places:
                return await self._patiently(lambda: self._profile(user_id, version))

        async def many(rows: Sequence[dict[str, Any]]) -> list[str]:
            users = dict.fromkeys(str(row["user_id"]) for row in rows)
            return list(await asyncio.gather(*map(one, users)))

        return await self._run(("user_id",), many, on_progress)

    async def items(self, on_progress: OnProgress) -> Report:
        """Import the items of the table, as `langptune data prepare` writes it. Outcomes: imported, unchanged, rejected."""

        async def many(rows: Sequence[dict[str, Any]]) -> list[str]:
            items = list(map(item_from_row, rows))
            report = await self._patiently(lambda: self.client.import_items(items))
            counts = {"imported": report.imported, "unchanged": report.unchanged, "rejected": report.rejected}
            return [outcome for outcome, count in counts.items() for _ in range(count)]

        return await self._run(ITEM_SCHEMA.names, many, on_progress, maybe=[ATTRIBUTES])

    async def _run(
        self,
        columns: Sequence[str],
        many: Callable[[Sequence[dict[str, Any]]], Awaitable[list[str]]],
        on_progress: OnProgress,
        *,
        maybe: Sequence[str] = (),
    ) -> Report:
        """Batch by batch from the last mark on, a mark after each."""
        table = Table(self.source, columns, maybe)
        span, marks = self.shard.span(table.rows), Progress(self.progress, self.shard)
        mark = marks.read(str(self.source), table.rows)
        on_progress(mark.done, len(span))
        for rows in _batches(table.read(span[mark.done :]), self.batch):
            mark = mark.advanced(len(rows), await many(rows))
            await asyncio.to_thread(marks.write, mark)
            on_progress(mark.done, len(span))
        return _report(self.shard, mark)

    async def _profile(self, user_id: str, version: str) -> str:
        try:
            page = await self.client.get_profile_page(user_id)
            suggested = page.suggestion is not None and page.suggestion.versions.encoder_version == version
            if suggested or page.profile.versions.encoder_version == version:
                return "current"
        except NotFound:
            pass  # no profile yet
        try:
            profile = await self.client.refresh_profile(user_id, seed=_seed(user_id))
        except NotFound:
            return "without_history"
        except (FailedPrecondition, InvalidArgument):
            return "refused"  # the model had nothing to say of this history
        return "written" if profile.versions.encoder_version == version else "suggested"

    async def _patiently(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer; a service that is full or away, or a profile that changes meanwhile, is asked again until patience ends."""
        loop = asyncio.get_running_loop()
        give_up, pause = loop.time() + self.patience, 0.5
        while True:
            try:
                return await call()
            except ResourceExhausted as error:
                wait = error.retry_after
                if loop.time() + wait > give_up:
                    raise
            except (Aborted, DeadlineExceeded, Unavailable):
                wait, pause = pause, min(2 * pause, _LONGEST_PAUSE)
                if loop.time() + wait > give_up:
                    raise
            await asyncio.sleep(wait)


def _batches(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, size)):
        yield batch


def _seed(user_id: str) -> int:
    """The same at every attempt, so that a repeated one would write the same text."""
    return int.from_bytes(hashlib.blake2b(user_id.encode(), digest_size=4).digest(), "big")


def _report(shard: Shard, mark: Mark) -> Report:
    return Report(str(shard), mark.done, asdict(mark)["counts"])
