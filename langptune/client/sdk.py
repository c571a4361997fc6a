"""`LangPTune`: one method per RPC of the gateway, in Python values.

Lists page themselves (async iterators), imports go out in chunks, a watched job is picked up again after a lost connection.
Everything raises `langptune.errors`: InvalidArgument (names the field), NotFound (names the resource), Aborted (carries the
current etag), Unauthenticated, PermissionDenied, Unavailable, DeadlineExceeded and the rest. `timeout` is in seconds; None is
the client's default.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from google.protobuf.json_format import MessageToDict

from langptune.client import convert, releases
from langptune.client.chunks import Progress, interaction_requests, item_requests
from langptune.client.releases import Gate, Pruned, Publish, Published, ReleaseMove, Verified
from langptune.client.values import (
    DeadRefresh,
    DeletedUserData,
    DiffPart,
    ImportedInteractions,
    ImportedItems,
    ItemFilter,
    NewInteraction,
    Preview,
    Profile,
    ProfileEvidence,
    ProfilePage,
    Recommendation,
    Recorded,
    RefreshQueueDepth,
    Release,
    SentenceMark,
    TrainingEvent,
    TrainingJob,
    TrainingPlan,
    TrainingSpec,
)
from langptune.convert import item_from_catalogue, timestamp
from langptune.domain import Interaction, Item
from langptune.errors import Unavailable
from langptune.rpc import open_channel
from langptune.rpc.tls import Tls
from langptune.v1 import (
    account_pb2,
    account_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
    refresh_pb2,
    refresh_pb2_grpc,
    trainer_pb2,
    trainer_pb2_grpc,
)

IMPORT_TIMEOUT = 3_600.0  # seconds
REFRESH_TIMEOUT = 300.0  # seconds; a language model writes
WATCH_TIMEOUT = 7 * 86_400.0  # seconds; a job trains
_RECONNECTS = 5  # in a row, without an event between them


class LangPTune:
    """A connection to a gateway.

    import asyncio
    import sys
    from langptune.client import Interaction, Item, LangPTune, NewInteraction

    async def main() -> None:
        async with LangPTune("localhost:50051") as lp:
            await lp.import_items([Item("i1", "Alien", "A crew meets a stowaway."), Item("i2", "Paddington")])
            await lp.record_interactions("u1", [NewInteraction("i1", 5.0, "Still scares me.")])
            profile = await lp.refresh_profile("u1")
            await lp.update_profile("u1", profile.text + " No gore.", etag=profile.etag)
            recommendation = await lp.recommend("u1", k=10)
            for place in recommendation.items:
                sys.stdout.write(f"{place.position:3} {place.item.title}\\n")

    asyncio.run(main())
    """

    def __init__(
        self,
        address: str = "localhost:50051",
        *,
        token: str = "",
        tls: Tls | None = None,
        timeout: float = 30.0,
        reconnect_pause: float = 0.2,
    ) -> None:
        """Connects on first use; `timeout` seconds for every call that is given none of its own.

        `token` says who calls. `tls`: `Tls()` for a gateway with a certificate of a public authority, `Tls(authority="ca.pem")`
        for one of your own; without it the connection is plain.
        A watch that breaks is taken up again after `reconnect_pause` seconds, then after twice that, and so on.
        """
        self._address = address
        self._token = token
        self._tls = tls
        self._timeout = timeout
        self._reconnect_pause = reconnect_pause

    async def __aenter__(self) -> Self:
        self._channel = open_channel(self._address, timeout=self._timeout, token=self._token, tls=self._tls)
        channel: Any = self._channel  # stubs ask for grpc's own channel type and use only the methods that ours has
        self._recommendations = gateway_pb2_grpc.RecommendationServiceStub(channel)
        self._profiles = gateway_pb2_grpc.ProfileServiceStub(channel)
        self._interactions = gateway_pb2_grpc.InteractionServiceStub(channel)
        self._refreshes = refresh_pb2_grpc.RefreshQueueServiceStub(channel)
        self._catalog = gateway_pb2_grpc.CatalogServiceStub(channel)
        self._accounts = account_pb2_grpc.AccountServiceStub(channel)
        self._trainer = trainer_pb2_grpc.TrainerServiceStub(channel)
        self._releases = trainer_pb2_grpc.ReleaseServiceStub(channel)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._channel.close()

    async def ready(self, timeout: float = 10.0) -> None:
        """Return once the gateway can be reached. Raises DeadlineExceeded."""
        await self._channel.ready(timeout)

    # Recommendations

    async def recommend(
        self,
        user_id: str,
        k: int = 10,
        *,
        explain: bool = False,
        where: ItemFilter | None = None,
        avoid: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Recommendation:
        """The best `k` (1 to 100) items for a user, without those that the user has interacted with.

        With `explain` also the sentence of the profile that speaks most for each; with `where` only items that it passes; `avoid`
        is added to what the user avoids always. Raises InvalidArgument for a field that cannot be filtered by.
        """
        request = gateway_pb2.RecommendRequest(
            user_id=user_id,
            k=k,
            explain=explain,
            filter=convert.item_filter_to_proto(where) if where else None,
            avoid=avoid,
        )
        return convert.recommendation(await self._recommendations.Recommend(request, timeout=timeout))

    async def preview(self, user_id: str, text: str, k: int = 10, *, timeout: float | None = None) -> Preview:
        """The ranking by an unsaved text, and how far each item would move; nothing is stored."""
        request = gateway_pb2.PreviewRequest(user_id=user_id, text=text, k=k)
        return convert.preview(await self._recommendations.Preview(request, timeout=timeout))

    # Profiles

    async def get_profile(self, user_id: str, *, timeout: float | None = None) -> Profile:
        """The current revision. Raises NotFound when the user has no profile yet."""
        request = gateway_pb2.GetProfileRequest(user_id=user_id)
        return convert.profile((await self._profiles.GetProfile(request, timeout=timeout)).profile)

    async def get_profile_page(self, user_id: str, *, timeout: float | None = None) -> ProfilePage:
        """The current revision with the suggestion and the marks beside it. Raises NotFound as `get_profile`."""
        request = gateway_pb2.GetProfileRequest(user_id=user_id)
        return convert.profile_page(await self._profiles.GetProfile(request, timeout=timeout))

    async def explain_profile(self, user_id: str, revision: int = 0, *, timeout: float | None = None) -> ProfileEvidence:
        """What each sentence of a revision (0: the current one) rests on. Raises NotFound for one that is not kept."""
        request = gateway_pb2.ExplainProfileRequest(user_id=user_id, revision=revision)
        return convert.profile_evidence(await self._profiles.ExplainProfile(request, timeout=timeout))

    async def add_avoid_phrase(self, user_id: str, phrase: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """All that the user never wants, with `phrase` ("clowns"). Raises FailedPrecondition beyond 20 phrases."""
        request = gateway_pb2.AddAvoidPhraseRequest(user_id=user_id, phrase=phrase)
        return tuple((await self._profiles.AddAvoidPhrase(request, timeout=timeout)).phrases)

    async def remove_avoid_phrase(self, user_id: str, phrase: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """All that the user never wants, without `phrase`."""
        request = gateway_pb2.RemoveAvoidPhraseRequest(user_id=user_id, phrase=phrase)
        return tuple((await self._profiles.RemoveAvoidPhrase(request, timeout=timeout)).phrases)

    async def list_avoid_phrases(self, user_id: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """All that the user never wants, in alphabetical order; for users without a profile, too."""
        request = gateway_pb2.ListAvoidPhrasesRequest(user_id=user_id)
        return tuple((await self._profiles.ListAvoidPhrases(request, timeout=timeout)).phrases)

    async def update_profile(self, user_id: str, text: str, *, etag: str = "", timeout: float | None = None) -> Profile:
        """Replace the text by the user's own words; `etag` is that of the revision that was read, empty where there is none.

        The result is on disk. Raises Aborted with the current etag when somebody else was first.
        """
        request = gateway_pb2.UpdateProfileRequest(user_id=user_id, text=text, etag=etag)
        return convert.profile((await self._profiles.UpdateProfile(request, timeout=timeout)).profile)

    async def refresh_profile(
        self,
        user_id: str,
        *,
        overwrite_edited: bool = False,
        seed: int | None = None,
        as_of_ms: int | None = None,
        timeout: float | None = REFRESH_TIMEOUT,
    ) -> Profile:
        """Have the encoder write from the user's history; returns the profile as it is now.

        A profile that the user has edited stays as it is unless `overwrite_edited`: what was written lies beside it as the
        suggestion (`get_profile_page`). With `as_of_ms` nothing that happened later is read. Raises NotFound without a history,
        Aborted when the profile was changed meanwhile, Unavailable while the encoder is down.
        """
        as_of = timestamp(as_of_ms) if as_of_ms is not None else None
        request = gateway_pb2.RefreshProfileRequest(user_id=user_id, overwrite_edited=overwrite_edited, seed=seed, as_of=as_of)
        return convert.profile((await self._profiles.RefreshProfile(request, timeout=timeout)).profile)

    async def accept_profile_suggestion(
        self, user_id: str, *, etag: str, merged_text: str = "", timeout: float | None = None
    ) -> Profile:
        """The suggestion, or `merged_text` in its place, becomes the profile. Raises NotFound, else as `update_profile`."""
        request = gateway_pb2.AcceptProfileSuggestionRequest(user_id=user_id, etag=etag, merged_text=merged_text)
        return convert.profile((await self._profiles.AcceptProfileSuggestion(request, timeout=timeout)).profile)

    async def dismiss_profile_suggestion(self, user_id: str, *, timeout: float | None = None) -> None:
        """Forget the suggestion, if there is one."""
        request = gateway_pb2.DismissProfileSuggestionRequest(user_id=user_id)
        await self._profiles.DismissProfileSuggestion(request, timeout=timeout)

    async def mark_profile_sentence(
        self, user_id: str, sentence: str, mark: SentenceMark, *, etag: str, timeout: float | None = None
    ) -> Profile:
        """Pin a sentence, call it not true (it leaves the profile at once), or take its mark back. Raises as `update_profile`."""
        value = gateway_pb2.SentenceMark.Value(f"SENTENCE_MARK_{mark.name}")
        request = gateway_pb2.MarkProfileSentenceRequest(user_id=user_id, sentence=sentence, mark=value, etag=etag)
        return convert.profile((await self._profiles.MarkProfileSentence(request, timeout=timeout)).profile)

    async def diff_profile_revisions(
        self, user_id: str, from_revision: int, to_revision: int, *, timeout: float | None = None
    ) -> tuple[DiffPart, ...]:
        """What changed, word by word, in reading order. Raises NotFound for a revision that is not kept."""
        request = gateway_pb2.DiffProfileRevisionsRequest(user_id=user_id, from_revision=from_revision, to_revision=to_revision)
        response = await self._profiles.DiffProfileRevisions(request, timeout=timeout)
        return tuple(map(convert.diff_part, response.parts))

    async def list_profile_revisions(self, user_id: str, *, page_size: int = 20) -> AsyncIterator[Profile]:
        """All kept revisions, newest first. Raises NotFound when the user has no profile."""
        request = gateway_pb2.ListProfileRevisionsRequest(user_id=user_id, page_size=page_size)
        async for response in _pages(self._profiles.ListProfileRevisions, request):
            for revision in response.revisions:
                yield convert.profile(revision)

    async def restore_profile_revision(self, user_id: str, revision: int, *, etag: str, timeout: float | None = None) -> Profile:
        """Make an old revision's text the current one again, as a new revision. Raises as `update_profile`, and NotFound."""
        request = gateway_pb2.RestoreProfileRevisionRequest(user_id=user_id, revision=revision, etag=etag)
        return convert.profile((await self._profiles.RestoreProfileRevision(request, timeout=timeout)).profile)

    # Interactions

    async def record_interactions(
        self,
        user_id: str,
        interactions: Sequence[Interaction | NewInteraction],
        *,
        request_id: str = "",
        timeout: float | None = None,
    ) -> Recorded:
        """Add 1 to 1,000 interactions to a user's history: all, or none.

        Idempotent by item and time, and by `request_id`: sent again with the same one, it has its first answer and changes
        nothing. Raises AlreadyExists for a `request_id` that was given to other interactions.
        """
        entries = [convert.new_interaction(entry, stamped=not request_id) for entry in interactions]
        request = gateway_pb2.RecordInteractionsRequest(user_id=user_id, interactions=entries, request_id=request_id)
        response = await self._interactions.RecordInteractions(request, timeout=timeout)
        return Recorded(response.recorded, response.unchanged, response.history_size, response.refresh_pending)

    async def import_interactions(
        self,
        source: Iterable[tuple[str, Interaction | NewInteraction]] | AsyncIterable[tuple[str, Interaction | NewInteraction]],
        *,
        progress: Progress | None = None,
        timeout: float | None = IMPORT_TIMEOUT,
    ) -> ImportedInteractions:
        """Add (user id, interaction) pairs; a bad one is rejected and reported. Fastest with each user's pairs together.

        `progress` is called with the number of pairs sent so far.
        """
        response = await self._interactions.ImportInteractions(interaction_requests(source, progress), timeout=timeout)
        rejections = convert.rejections(response.rejections)
        return ImportedInteractions(response.recorded, response.unchanged, response.rejected, rejections, response.users)

    async def list_interactions(self, user_id: str, *, page_size: int = 100) -> AsyncIterator[Interaction]:
        """A user's history with whole items, newest first."""
        request = gateway_pb2.ListInteractionsRequest(user_id=user_id, page_size=page_size)
        async for response in _pages(self._interactions.ListInteractions, request):
            for entry in response.interactions:
                yield convert.interaction(entry)

    # Accounts

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

    # The refresh queue, for operators

    async def get_refresh_queue(self, *, timeout: float | None = None) -> RefreshQueueDepth:
        """How many profiles are to be written again, and for how long they have waited."""
        found = await self._refreshes.GetRefreshQueue(refresh_pb2.GetRefreshQueueRequest(), timeout=timeout)
        return RefreshQueueDepth(found.queued, found.running, found.delayed, found.dead, found.lag.ToMilliseconds() / 1_000)

    async def list_dead_refreshes(self, *, page_size: int = 100) -> AsyncIterator[DeadRefresh]:
        """Refreshes that were given up, the oldest first."""
        request = refresh_pb2.ListDeadRefreshesRequest(page_size=page_size)
        async for response in _pages(self._refreshes.ListDeadRefreshes, request):
            for dead in response.refreshes:
                yield DeadRefresh(dead.user_id, dead.code, dead.message, dead.attempts, dead.time.ToMilliseconds())

    async def replay_dead_refreshes(self, user_ids: Sequence[str] = (), *, timeout: float | None = None) -> int:
        """Queue dead refreshes again: of these users, or the oldest 1,000. Returns how many there were."""
        request = refresh_pb2.ReplayDeadRefreshesRequest(user_ids=user_ids)
        return int((await self._refreshes.ReplayDeadRefreshes(request, timeout=timeout)).replayed)

    # Catalogue

    async def import_items(
        self,
        source: Iterable[Item] | AsyncIterable[Item],
        *,
        progress: Progress | None = None,
        timeout: float | None = IMPORT_TIMEOUT,
    ) -> ImportedItems:
        """Add or replace items; a bad one is rejected and reported. `progress` is called with the number of items sent so far."""
        response = await self._catalog.ImportCatalogItems(item_requests(source, progress), timeout=timeout)
        rejections = convert.rejections(response.rejections)
        return ImportedItems(response.imported, response.unchanged, response.rejected, rejections, response.catalogue_size)

    async def get_item(self, item_id: str, *, timeout: float | None = None) -> Item:
        """Raises NotFound."""
        request = gateway_pb2.GetCatalogItemRequest(item_id=item_id)
        return item_from_catalogue((await self._catalog.GetCatalogItem(request, timeout=timeout)).item)

    async def list_items(self, *, page_size: int = 100) -> AsyncIterator[Item]:
        """The catalogue, in a stable order."""
        request = gateway_pb2.ListCatalogItemsRequest(page_size=page_size)
        async for response in _pages(self._catalog.ListCatalogItems, request):
            for entry in response.items:
                yield item_from_catalogue(entry)

    # Training

    async def create_training_job(self, spec: TrainingSpec, *, job_id: str = "", timeout: float | None = None) -> TrainingJob:
        """Start a job. Idempotent by `job_id`; raises AlreadyExists for the same id with another spec."""
        request = trainer_pb2.CreateTrainingJobRequest(spec=convert.training_spec_to_proto(spec), job_id=job_id)
        return convert.training_job((await self._trainer.CreateTrainingJob(request, timeout=timeout)).job)

    async def plan_training_job(self, spec: TrainingSpec, *, timeout: float | None = None) -> TrainingPlan:
        """What the job would take; nothing is created. Raises what `create_training_job` raises, and FailedPrecondition for a
        model that no plan can be made for."""
        request = trainer_pb2.CreateTrainingJobRequest(spec=convert.training_spec_to_proto(spec), validate_only=True)
        return convert.training_plan(await self._trainer.CreateTrainingJob(request, timeout=timeout))

    async def get_training_job(self, job_id: str, *, timeout: float | None = None) -> TrainingJob:
        """Raises NotFound."""
        request = trainer_pb2.GetTrainingJobRequest(job_id=job_id)
        return convert.training_job((await self._trainer.GetTrainingJob(request, timeout=timeout)).job)

    async def list_training_jobs(self, *, page_size: int = 20) -> AsyncIterator[TrainingJob]:
        """All jobs, newest first."""
        request = trainer_pb2.ListTrainingJobsRequest(page_size=page_size)
        async for response in _pages(self._trainer.ListTrainingJobs, request):
            for job in response.jobs:
                yield convert.training_job(job)

    async def cancel_training_job(self, job_id: str, *, timeout: float | None = None) -> TrainingJob:
        """Ask a job to stop after the step in hand, or give up a failed one. Raises FailedPrecondition when it has succeeded."""
        request = trainer_pb2.CancelTrainingJobRequest(job_id=job_id)
        return convert.training_job((await self._trainer.CancelTrainingJob(request, timeout=timeout)).job)

    async def resume_training_job(
        self, job_id: str, *, guards: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> TrainingJob:
        """Let a failed job go on from its checkpoint, with other guards if given: `{"guards.kl.action": "warn"}`.

        Raises FailedPrecondition when it has not failed.
        """
        request = trainer_pb2.ResumeTrainingJobRequest(job_id=job_id, overrides=guards)
        return convert.training_job((await self._trainer.ResumeTrainingJob(request, timeout=timeout)).job)

    async def watch_training_job(
        self, job_id: str, *, after_sequence: int = 0, timeout: float | None = WATCH_TIMEOUT
    ) -> AsyncIterator[TrainingEvent]:
        """The job's events from after `after_sequence`, then live until the job ends; no event twice, none left out.

        A lost connection is taken up again where it broke, up to five times without an event; then raises Unavailable.
        """
        failures = 0
        while True:
            request = trainer_pb2.WatchTrainingJobRequest(job_id=job_id, after_sequence=after_sequence)
            try:
                async for response in self._trainer.WatchTrainingJob(request, timeout=timeout):
                    after_sequence, failures = response.event.sequence, 0
                    yield convert.training_event(response.event)
                return
            except Unavailable:
                failures += 1
                if failures > _RECONNECTS:
                    raise
            await asyncio.sleep(self._reconnect_pause * 2**failures)

    # Releases

    async def get_release(self, release_id: str, *, timeout: float | None = None) -> Release:
        """Raises NotFound."""
        request = trainer_pb2.GetReleaseRequest(release_id=release_id)
        return convert.release((await self._releases.GetRelease(request, timeout=timeout)).release)

    async def get_live_release(self, *, timeout: float | None = None) -> Release:
        """The release that answers users now. Raises NotFound before the first."""
        return convert.release(
            (await self._releases.GetLiveRelease(trainer_pb2.GetLiveReleaseRequest(), timeout=timeout)).release
        )

    async def list_releases(self, *, page_size: int = 20) -> AsyncIterator[Release]:
        """All releases, newest first."""
        request = trainer_pb2.ListReleasesRequest(page_size=page_size)
        async for response in _pages(self._releases.ListReleases, request):
            for entry in response.releases:
                yield convert.release(entry)

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
        return Published(convert.release(response.release), response.previous_release_id, releases.publish(response.publish))

    async def rollback_release(self, *, actor: str = "", reason: str = "", timeout: float | None = IMPORT_TIMEOUT) -> Published:
        """Publish the release that was live before. Raises FailedPrecondition when there was none."""
        request = trainer_pb2.RollbackReleaseRequest(actor=actor, reason=reason)
        response = await self._releases.RollbackRelease(request, timeout=timeout)
        return Published(convert.release(response.release), response.previous_release_id, releases.publish(response.publish))

    async def get_publish(self, *, timeout: float | None = None) -> Publish:
        """The publish that runs, else the last one. Raises NotFound before the first."""
        response = await self._releases.GetPublish(trainer_pb2.GetPublishRequest(), timeout=timeout)
        return releases.publish(response.publish)

    async def list_release_moves(self, *, page_size: int = 20) -> AsyncIterator[ReleaseMove]:
        """Every move of the live pointer, newest first."""
        request = trainer_pb2.ListReleaseMovesRequest(page_size=page_size)
        async for response in _pages(self._releases.ListReleaseMoves, request):
            for move in response.moves:
                yield convert.release_move(move)

    async def check_gate(self, release_id: str, *, timeout: float | None = None) -> Gate:
        """What the gate says of a release against the live one."""
        response = await self._releases.CheckGate(trainer_pb2.CheckGateRequest(release_id=release_id), timeout=timeout)
        return releases.gate(response.gate)

    async def verify_release(self, release_id: str = "", *, timeout: float | None = IMPORT_TIMEOUT) -> Verified:
        """Hold every replica against a release; "" is the live one."""
        response = await self._releases.VerifyRelease(trainer_pb2.VerifyReleaseRequest(release_id=release_id), timeout=timeout)
        checks = tuple(releases.replica_check(check) for check in response.replicas)
        return Verified(convert.release(response.release), response.verified, checks)

    async def prune_releases(self, keep: int = 0, *, timeout: float | None = IMPORT_TIMEOUT) -> Pruned:
        """Remove the weights of releases older than the newest `keep`; 0 is the trainer's setting."""
        return releases.pruned(await self._releases.PruneReleases(trainer_pb2.PruneReleasesRequest(keep=keep), timeout=timeout))


async def _pages(method: Callable[[Any], Awaitable[Any]], request: Any) -> AsyncIterator[Any]:
    while True:
        response = await method(request)
        yield response
        request.page_token = response.next_page_token
        if not response.next_page_token:
            return
