"""What users may ask about their own data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.json_format import MessageToDict

from langptune.client.connection import IMPORT_TIMEOUT, Connection
from langptune.client.values.accounts import DeletedUserData
from langptune.v1 import account_pb2, account_pb2_grpc


class AccountCalls(Connection):
    """AccountService."""

    @property
    def _accounts(self) -> account_pb2_grpc.AccountServiceStub:
        return self._stub(account_pb2_grpc.AccountServiceStub)

    async def export_user_data(self, user_id: str, *, timeout: float | None = IMPORT_TIMEOUT) -> AsyncIterator[dict[str, Any]]:
        """All that is kept of a user, record by record, each ready for JSON: {"interaction": {...}}, {"revision": {...}}, ..."""
        request = account_pb2.ExportUserDataRequest(user_id=user_id)
        async for response in self._accounts.ExportUserData(request, timeout=timeout):
            yield MessageToDict(response)

    async def delete_user_data(self, user_id: str, *, timeout: float | None = None) -> DeletedUserData:
        """Forget a user: history, profile, revisions, marks, suggestion and what was queued. Idempotent; there is no way back."""
        request = account_pb2.DeleteUserDataRequest(user_id=user_id)
        response = await self._accounts.DeleteUserData(request, timeout=timeout)
        return DeletedUserData(response.interactions, response.revisions)
