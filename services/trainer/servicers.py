"""TrainerService and ReleaseService: requests in, calls of the core, responses out."""

# ruff: noqa: N802  # gRPC names the methods

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from langptune.convert import check_id, check_range, check_text
from langptune.rpc.context import known_caller
from langptune.v1 import trainer_pb2 as pb
from langptune.v1 import trainer_pb2_grpc
from services.trainer.jobs.control import TrainingJobs
from services.trainer.publishing.messages import (
    check_to_proto,
    finding_to_proto,
    move_to_proto,
    publication_to_proto,
    release_to_proto,
)
from services.trainer.publishing.publisher import Order
from services.trainer.publishing.releases import Releases

Context: TypeAlias = grpc.aio.ServicerContext
_DEFAULT_PAGE, _MAX_PAGE = 20, 100
_MAX_REASON, _MAX_ACTOR = 1_000, 128  # characters
_MAX_KEPT = 10_000  # releases


class TrainerServicer(trainer_pb2_grpc.TrainerServiceServicer):
    """Training jobs."""

    def __init__(self, jobs: TrainingJobs) -> None:
        self._jobs = jobs

    async def CreateTrainingJob(self, request: pb.CreateTrainingJobRequest, context: Context) -> pb.CreateTrainingJobResponse:
        if request.validate_only:
            planned, plan = await self._jobs.plan(request.spec)
            return pb.CreateTrainingJobResponse(job=planned, plan=plan)
        job = await self._jobs.create(request.spec, request.job_id)
        return pb.CreateTrainingJobResponse(job=job.to_proto())

    async def GetTrainingJob(self, request: pb.GetTrainingJobRequest, context: Context) -> pb.GetTrainingJobResponse:
        job = await self._jobs.table.get(check_id("job_id", request.job_id))
        return pb.GetTrainingJobResponse(job=job.to_proto())

    async def ListTrainingJobs(self, request: pb.ListTrainingJobsRequest, context: Context) -> pb.ListTrainingJobsResponse:
        size = check_range("page_size", request.page_size, 1, _MAX_PAGE, default=_DEFAULT_PAGE)
        jobs, token = await self._jobs.table.page(size, request.page_token)
        return pb.ListTrainingJobsResponse(jobs=[job.to_proto() for job in jobs], next_page_token=token)

    async def CancelTrainingJob(self, request: pb.CancelTrainingJobRequest, context: Context) -> pb.CancelTrainingJobResponse:
        job = await self._jobs.cancel(check_id("job_id", request.job_id))
        return pb.CancelTrainingJobResponse(job=job.to_proto())

    async def ResumeTrainingJob(self, request: pb.ResumeTrainingJobRequest, context: Context) -> pb.ResumeTrainingJobResponse:
        job = await self._jobs.resume(check_id("job_id", request.job_id), request.overrides)
        return pb.ResumeTrainingJobResponse(job=job.to_proto())

    async def WatchTrainingJob(
        self, request: pb.WatchTrainingJobRequest, context: Context
    ) -> AsyncIterator[pb.WatchTrainingJobResponse]:
        async for event in self._jobs.watch(check_id("job_id", request.job_id), request.after_sequence):
            yield pb.WatchTrainingJobResponse(event=event)


class ReleaseServicer(trainer_pb2_grpc.ReleaseServiceServicer):
    """Releases."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases

    async def GetRelease(self, request: pb.GetReleaseRequest, context: Context) -> pb.GetReleaseResponse:
        release = await self._releases.registry.get(check_id("release_id", request.release_id))
        return pb.GetReleaseResponse(release=release_to_proto(release, await self._releases.live_id()))

    async def GetLiveRelease(self, request: pb.GetLiveReleaseRequest, context: Context) -> pb.GetLiveReleaseResponse:
        release = await self._releases.registry.live()
        return pb.GetLiveReleaseResponse(release=release_to_proto(release, release.release_id))

    async def ListReleases(self, request: pb.ListReleasesRequest, context: Context) -> pb.ListReleasesResponse:
        size = check_range("page_size", request.page_size, 1, _MAX_PAGE, default=_DEFAULT_PAGE)
        found, token = await self._releases.page(size, request.page_token)
        live_id = await self._releases.live_id()
        return pb.ListReleasesResponse(releases=[release_to_proto(release, live_id) for release in found], next_page_token=token)

    async def PublishRelease(self, request: pb.PublishReleaseRequest, context: Context) -> pb.PublishReleaseResponse:
        order = Order(
            check_id("release_id", request.release_id),
            request.expected_live_release_id and check_id("expected_live_release_id", request.expected_live_release_id),
            actor=_actor(request.actor, context),
            reason=check_text("reason", request.reason, high=_MAX_REASON),
            override_reason=check_text("override_reason", request.override_reason, high=_MAX_REASON),
        )
        release, publication = await self._releases.publish(order)
        return pb.PublishReleaseResponse(
            release=release_to_proto(release, release.release_id),
            previous_release_id=publication.previous,
            publish=publication_to_proto(publication),
        )

    async def RollbackRelease(self, request: pb.RollbackReleaseRequest, context: Context) -> pb.RollbackReleaseResponse:
        actor = _actor(request.actor, context)
        reason = check_text("reason", request.reason, high=_MAX_REASON)
        release, publication = await self._releases.roll_back(actor=actor, reason=reason)
        return pb.RollbackReleaseResponse(
            release=release_to_proto(release, release.release_id),
            previous_release_id=publication.previous,
            publish=publication_to_proto(publication),
        )

    async def GetPublish(self, request: pb.GetPublishRequest, context: Context) -> pb.GetPublishResponse:
        return pb.GetPublishResponse(publish=publication_to_proto(await self._releases.publisher.current()))

    async def ListReleaseMoves(self, request: pb.ListReleaseMovesRequest, context: Context) -> pb.ListReleaseMovesResponse:
        size = check_range("page_size", request.page_size, 1, _MAX_PAGE, default=_DEFAULT_PAGE)
        moves, token = await self._releases.moves(size, request.page_token)
        return pb.ListReleaseMovesResponse(moves=map(move_to_proto, moves), next_page_token=token)

    async def CheckGate(self, request: pb.CheckGateRequest, context: Context) -> pb.CheckGateResponse:
        finding = await self._releases.check_gate(check_id("release_id", request.release_id))
        return pb.CheckGateResponse(gate=finding_to_proto(finding))

    async def VerifyRelease(self, request: pb.VerifyReleaseRequest, context: Context) -> pb.VerifyReleaseResponse:
        release, checks = await self._releases.verify(request.release_id and check_id("release_id", request.release_id))
        return pb.VerifyReleaseResponse(
            release=release_to_proto(release, await self._releases.live_id()),
            verified=not any(check.problems for check in checks),
            replicas=map(check_to_proto, checks),
        )

    async def PruneReleases(self, request: pb.PruneReleasesRequest, context: Context) -> pb.PruneReleasesResponse:
        pruned = await self._releases.publisher.prune(request.keep and check_range("keep", request.keep, 2, _MAX_KEPT))
        return pb.PruneReleasesResponse(
            release_ids=pruned.release_ids,
            encoder_versions=pruned.versions["encoder"],
            decoder_versions=pruned.versions["decoder"],
        )


def _actor(given: str, context: Context) -> str:
    """Who publishes: whom the gateway knows to call, else who the caller says it is."""
    return known_caller(context.invocation_metadata() or ())[:_MAX_ACTOR] or check_text("actor", given, high=_MAX_ACTOR)
