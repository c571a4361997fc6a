"""Histories of many users at once: checked one by one, written in groups, the bad ones reported and the others taken."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from langptune.convert import check_id
from langptune.errors import InvalidArgument
from langptune.v1 import common_pb2, gateway_pb2
from services.gateway.interactions.messages import entry_from_proto
from services.gateway.interactions.store import Entry, Interactions
from services.gateway.peers.decoder import Decoder

_GROUP = 2_000  # interactions written at once
_REPORTED = 1_000  # rejections told in full


@dataclass(slots=True)
class Report:
    """What has become of a stream so far."""

    recorded: int = 0
    unchanged: int = 0
    rejected: int = 0
    rejections: list[common_pb2.Rejection] = field(default_factory=list)
    users: set[str] = field(default_factory=set)

    def reject(self, index: int, identifier: str, wrong_field: str, reason: str) -> None:
        """Count a bad interaction, and tell of it while there is room."""
        self.rejected += 1
        if self.rejected <= _REPORTED:
            told = common_pb2.Rejection(index=index, id=identifier[:200], field=wrong_field, reason=reason)
            self.rejections.append(told)


class InteractionImport:
    """One stream of interactions. Use it once."""

    def __init__(self, interactions: Interactions, decoder: Decoder) -> None:
        self._interactions = interactions
        self._decoder = decoder
        self._known: dict[str, bool] = {}  # items asked for so far
        self._waiting: list[tuple[int, str, Entry]] = []  # index, user, entry
        self._index = 0
        self.report = Report()

    async def run(self, stream: AsyncIterator[gateway_pb2.ImportInteractionsRequest]) -> Report:
        """Read the stream to its end. What was written before an error stays; importing it again changes nothing."""
        async for request in stream:
            self._check(request.user_id, request.interactions)
            if len(self._waiting) >= _GROUP:
                await self._write()
        await self._write()
        return self.report

    def _check(self, user_id: str, messages: Iterable[common_pb2.Interaction]) -> None:
        self.report.users.add(user_id[:200])
        for message in messages:
            try:
                check_id("user_id", user_id)
                self._waiting.append((self._index, user_id, entry_from_proto(message)))
            except InvalidArgument as error:
                self.report.reject(self._index, message.item.item_id, error.field, error.message.removeprefix(f"{error.field}: "))
            self._index += 1

    async def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        unasked = {entry.item_id for _, _, entry in waiting} - self._known.keys()
        found = await self._decoder.items(unasked)
        self._known.update((item_id, item_id in found) for item_id in unasked)
        histories: dict[str, list[Entry]] = {}
        for index, user_id, entry in waiting:
            if self._known[entry.item_id]:
                histories.setdefault(user_id, []).append(entry)
            else:
                self.report.reject(index, entry.item_id, "item.item_id", f"the catalogue has no item {entry.item_id}")
        if not histories:
            return
        outcomes = await self._interactions.record(histories)
        self.report.recorded += sum(outcome.recorded for outcome in outcomes.values())
        self.report.unchanged += sum(outcome.unchanged for outcome in outcomes.values())
