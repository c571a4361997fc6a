"""Releases, for operators: published, rolled back, checked, pruned."""

from __future__ import annotations

from collections.abc import AsyncIterator

from langptune.client.connection import IMPORT_TIMEOUT, Connection
from langptune.client.paging import pages
from langptune.client.values.publishing import (
    Gate,
    Pruned,
    Publish,
    Published,
    Verified,
    gate_from_proto,
    pruned_from_proto,
    publish_from_proto,
    replica_check_from_proto,
)
from langptune.client.values.releases import Release, ReleaseMove, release_from_proto, release_move_from_proto
from langptune.v1 import trainer_pb2, trainer_pb2_grpc


class ReleaseCalls(Connection):
    """ReleaseService."""

    @property
    def _releases(self) -> trainer_pb2_grpc.ReleaseServiceStub:
        return self._stub(trainer_pb2_grpc.ReleaseServiceStub)

    async def get_release(self, release_id: str, *, timeout: float | None = None) -> Release:
        """Raises NotFound."""
        request = trainer_pb2.GetReleaseRequest(release_id=release_id)
        return release_from_proto((await self._releases.GetRelease(request, timeout=timeout)).release)

    async def get_live_release(self, *, timeout: float | None = None) -> Release:
        """The release that answers users now. Raises NotFound before the first."""
        return release_from_proto(
            (await self._releases.GetLiveRelease(trainer_pb2.GetLiveReleaseRequest(), timeout=timeout)).release
        )

    async def list_releases(self, *, page_size: int = 20) -> AsyncIterator[Release]:
        """All releases, newest first."""
        request = trainer_pb2.ListReleasesRequest(page_size=page_size)
        async for response in pages(self._releases.ListReleases, request):
            for entry in response.releases:
                yield release_from_proto(entry)

    async def publish_release(
        self,
        release_id: str,
        *,
        expected_live_release_id: str = "",
        actor: str = "",
        reason: str = "",
        override_reason: str = "",
        timeout: float | None = IMPORT_TIMEOUT,
    ) -> Published:
        """Load a release everywhere, verify it, and make it live.

        Raises Aborted when another one than expected is live by then, FailedPrecondition where the gate refuses a candidate
        (reason GATE_CLOSED; `override_reason` publishes it all the same) or a replica does not hold what was published.
        """
        request = trainer_pb2.PublishReleaseRequest(
            release_id=release_id,
            expected_live_release_id=expected_live_release_id,
            actor=actor,
            reason=reason,
            override_reason=override_reason,
        )
        response = await self._releases.PublishRelease(request, timeout=timeout)
        return Published(release_from_proto(response.release), response.previous_release_id, publish_from_proto(response.publish))

    async def rollback_release(self, *, actor: str = "", reason: str = "", timeout: float | None = IMPORT_TIMEOUT) -> Published:
        """Publish the release that was live before. Raises FailedPrecondition when there was none."""
        request = trainer_pb2.RollbackReleaseRequest(actor=actor, reason=reason)
        response = await self._releases.RollbackRelease(request, timeout=timeout)
        return Published(release_from_proto(response.release), response.previous_release_id, publish_from_proto(response.publish))

    async def get_publish(self, *, timeout: float | None = None) -> Publish:
        """The publish that runs, else the last one. Raises NotFound before the first."""
        response = await self._releases.GetPublish(trainer_pb2.GetPublishRequest(), timeout=timeout)
        return publish_from_proto(response.publish)

    async def list_release_moves(self, *, page_size: int = 20) -> AsyncIterator[ReleaseMove]:
        """Every move of the live pointer, newest first."""
        request = trainer_pb2.ListReleaseMovesRequest(page_size=page_size)
        async for response in pages(self._releases.ListReleaseMoves, request):
            for move in response.moves:
                yield release_move_from_proto(move)

    async def check_gate(self, release_id: str, *, timeout: float | None = None) -> Gate:
        """What the gate says of a release against the live one."""
        response = await self._releases.CheckGate(trainer_pb2.CheckGateRequest(release_id=release_id), timeout=timeout)
        return gate_from_proto(response.gate)

    async def verify_release(self, release_id: str = "", *, timeout: float | None = IMPORT_TIMEOUT) -> Verified:
        """Hold every replica against a release; "" is the live one."""
        response = await self._releases.VerifyRelease(trainer_pb2.VerifyReleaseRequest(release_id=release_id), timeout=timeout)
        checks = tuple(replica_check_from_proto(check) for check in response.replicas)
        return Verified(release_from_proto(response.release), response.verified, checks)

    async def prune_releases(self, keep: int = 0, *, timeout: float | None = IMPORT_TIMEOUT) -> Pruned:
        """Remove the weights of releases older than the newest `keep`; 0 is the trainer's setting."""
        return pruned_from_proto(await self._releases.PruneReleases(trainer_pb2.PruneReleasesRequest(keep=keep), timeout=timeout))
