"""AccountService: translate in, call the core, translate out."""

# ruff: noqa: N802  # gRPC names the methods

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langptune.v1 import account_pb2, account_pb2_grpc
from services.gateway.accounts import Accounts, Record
from services.gateway.interactions.messages import entry_to_proto
from services.gateway.profiles.marks import Marks
from services.gateway.profiles.messages import marks_to_proto, profile_to_proto, suggestion_to_proto
from services.gateway.profiles.revision import Revision, Suggestion


class AccountServicer(account_pb2_grpc.AccountServiceServicer):
    """AccountService."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def ExportUserData(
        self, request: account_pb2.ExportUserDataRequest, context: Any
    ) -> AsyncIterator[account_pb2.ExportUserDataResponse]:
        async for record in self._accounts.export(request.user_id):
            for response in _responses(record):
                yield response

    async def DeleteUserData(
        self, request: account_pb2.DeleteUserDataRequest, context: Any
    ) -> account_pb2.DeleteUserDataResponse:
        forgotten = await self._accounts.delete(request.user_id)
        return account_pb2.DeleteUserDataResponse(interactions=forgotten.interactions, revisions=forgotten.revisions)


def _responses(record: Record) -> Iterator[account_pb2.ExportUserDataResponse]:
    match record:
        case Revision():
            yield account_pb2.ExportUserDataResponse(revision=profile_to_proto(record))
        case Suggestion():
            yield account_pb2.ExportUserDataResponse(suggestion=suggestion_to_proto(record))
        case Marks():
            for mark in marks_to_proto(record):
                yield account_pb2.ExportUserDataResponse(mark=mark)
        case str():
            yield account_pb2.ExportUserDataResponse(avoid_phrase=record)
        case (entry, item):
            yield account_pb2.ExportUserDataResponse(interaction=entry_to_proto(entry, item))
