"""Publishing as a protocol that a crash cannot tear: load -> verify -> flip -> drain -> retire.

Up to the flip nothing that answers users has changed; the flip is one instant in Redis; after it only what nobody uses goes away.
Every step is told to the record before it begins and may be done twice, so whoever finds an open record whose lease has run out
goes on with it: the same call again, or `tend`, which the trainer repeats for as long as it lives. A publish that cannot go
on (a replica is away, a check fails) ends as FAILED before the flip, with the release before still live.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

import structlog
from redis.exceptions import RedisError

from langptune.errors import Aborted, FailedPrecondition, LangPTuneError, NotFound, Unavailable
from langptune.weights import KINDS, Kind, Release, ReleaseRegistry, Why
from langptune.weights.releases import LeaseLost
from services.trainer import metrics
from services.trainer.publishing.gate import Finding, Gate, Verdict
from services.trainer.publishing.publication import Lease, Publication, PublicationRecord, Step, now_ms
from services.trainer.publishing.replicas import Replicas
from services.trainer.publishing.retention import Pruned, Retention
from services.trainer.publishing.slots import Slots
from services.trainer.publishing.verification import Verifier
from services.trainer.settings import TrainerSettings

log = structlog.get_logger(__name__)

_POLL = 0.05  # seconds between two looks at a publish that somebody else works at


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asks for."""

    release_id: str
    expected: str = ""  # release that must be live; "" skips the check
    actor: str = ""
    reason: str = ""
    override_reason: str = ""


class Publisher:
    """Moves the pointer, and everything around it."""

    def __init__(
        self,
        registry: ReleaseRegistry,
        record: PublicationRecord,
        replicas: Replicas,
        gate: Gate,
        verifier: Verifier,
        retention: Retention,
        settings: TrainerSettings,
        slots: Slots | None = None,
    ) -> None:
        """`slots`: where encoder versions have to be brought up before they can be loaded."""
        self._slots = slots
        self._registry = registry
        self._record = record
        self._replicas = replicas
        self._gate = gate
        self._verifier = verifier
        self._retention = retention
        self._settings = settings
        self._running: set[asyncio.Task[Publication]] = set()
        self._newest = ""  # release for which the versions in memory were last looked through

    async def publish(self, order: Order) -> Publication:
        """Return once the release is live; a caller that leaves does not end it. Raises what PublishRelease promises."""
        task = asyncio.create_task(self._fenced(order))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, even if the caller has left
        return await asyncio.shield(task)

    async def current(self) -> Publication:
        """The publish that runs, else the last one. Raises NotFound before the first."""
        publication = await self._record.read()
        if publication is None:
            raise NotFound("publish", "last")
        return publication

    async def prune(self, keep: int) -> Pruned:
        """Remove weights from the store; `keep` 0 is the setting. Raises FailedPrecondition while a publish works."""
        async with self._record.lease() as lease:
            if lease is None:
                raise _in_progress(await self._record.read())
            return await self._retention.prune(keep or self._settings.releases_kept)

    async def tend(self) -> None:
        """One look: finish what a crash has left, retire what has drained, and forget what a newer candidate replaces."""
        publication = await self._record.read()
        newest = next(iter(await self._registry.page(1)), None)
        name = newest.release_id if newest else ""
        if name == self._newest and (publication is None or publication.ended or self._drains(publication)):
            return
        async with self._record.lease() as lease:
            if lease is None:
                return
            publication = await self._record.read()
            if publication is not None and not publication.ended and not self._drains(publication):
                await self._go_on(publication, lease)
            else:
                await self._hold_live()
                await self._retention.unload()
        self._newest = name

    async def run(self, stopping: asyncio.Event) -> None:
        """`tend` again and again until `stopping`, then let publishes that run come to the flip or to nothing."""
        while not stopping.is_set():
            try:
                await self.tend()
            except (RedisError, LangPTuneError, OSError, LeaseLost) as error:
                log.warning("publish not tended", error=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), self._settings.poll_seconds)
        for task in self._running:
            task.cancel()  # the record stays open, and the next trainer goes on
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _fenced(self, order: Order) -> Publication:
        try:
            return await self._publish(order)
        except LeaseLost as error:
            raise Unavailable(f"{error}; GetPublish tells how far it is", reason="PUBLISH_TAKEN_UP") from error

    async def _publish(self, order: Order) -> Publication:
        release = await self._registry.get(order.release_id)
        if release.retired:
            raise FailedPrecondition(f"the weights of {release.release_id} have been removed", reason="RELEASE_RETIRED")
        live = await self._live(order)
        if live.release_id == release.release_id:
            return await self._nothing_to_do(order)
        finding = await self._gate.check(release, live)
        if not finding.verdict.passes and not order.override_reason:
            metrics.PUBLISHES.labels("refused").inc()
            raise _refused(release, finding)
        overridden = "" if finding.verdict.passes else order.override_reason
        end = time.monotonic() + self._settings.load_timeout
        while True:
            async with self._record.lease() as lease:
                if lease is not None:
                    return await self._begin(order, finding, overridden, lease)
            await self._wait_or_refuse(order, end)
            current = await self._record.read()
            if current is not None and current.release_id == order.release_id and current.flipped:
                return current  # another trainer, or an earlier call, has published it

    async def _begin(self, order: Order, finding: Finding, overridden: str, lease: Lease) -> Publication:
        current = await self._record.read()
        if current is not None and current.release_id == order.release_id and not (current.ended or current.flipped):
            return await self._advance(current, lease)  # a crash has cut it off: this call finishes it
        live = await self._live(order)
        if live.release_id == order.release_id:
            return await self._nothing_to_do(order)
        publication = Publication.begin(
            order.release_id,
            live.release_id,
            actor=order.actor,
            reason=order.reason,
            override_reason=overridden,
            verdict=finding.verdict,
        )
        return await self._advance(await lease.write(publication), lease)

    async def _advance(self, publication: Publication, lease: Lease) -> Publication:
        """Up to the flip. What an earlier attempt had loaded and verified is asked for again: it may have gone with a crash."""
        release = await self._registry.get(publication.release_id)
        try:
            publication = await lease.write(publication.at(Step.LOAD))
            previous = await self._registry.get(publication.previous)
            await asyncio.gather(*(self._load(kind, release.version(kind), previous) for kind in KINDS))
            publication = await lease.write(publication.at(Step.VERIFY))
            await self._verifier.require(release)
            publication = await lease.write(publication.at(Step.FLIP))
            drains = publication.at(Step.DRAIN)
            await self._registry.set_live(
                release.release_id, expected=publication.previous, why=_why(publication), fence=lease.fence(drains)
            )
        except LangPTuneError as error:
            metrics.PUBLISHES.labels("failed").inc()
            await lease.write(publication.at(Step.FAILED, error.message))
            self._newest = ""  # what was loaded in vain is forgotten at the next look
            raise
        metrics.PUBLISHES.labels("published").inc()
        metrics.PUBLISH_SECONDS.observe((now_ms() - publication.start_ms) / 1_000)
        log.info("release published", release=release.release_id, previous=publication.previous, reason=publication.reason)
        return drains

    async def _load(self, kind: Kind, version: str, live: Release) -> None:
        async def load() -> None:
            await asyncio.gather(*(replica.load(version) for replica in await self._replicas.of(kind)))

        if kind == "encoder" and self._slots is not None:
            await self._slots.prepare(version, keep={live.encoder_version})
            await self._slots.until_served(version, load)
        else:
            await load()

    async def _hold_live(self) -> None:
        """The live release has its slot: on a first start, or where a machine came back without it."""
        if self._slots is not None:
            await self._slots.prepare((await self._registry.live()).encoder_version, keep=())

    async def _go_on(self, publication: Publication, lease: Lease) -> None:
        """With an open record whose worker has died, or that has drained."""
        if not publication.flipped:
            log.info("publish goes on", publish=publication.publish_id, release=publication.release_id, step=publication.step)
            await self._advance(publication, lease)
            return
        publication = await lease.write(publication.at(Step.RETIRE))
        await self._retention.unload()
        await self._retention.prune(self._settings.releases_kept)
        await lease.write(publication.at(Step.DONE))

    def _drains(self, publication: Publication) -> bool:
        waited = (now_ms() - publication.step_ms) / 1_000
        return publication.step == Step.DRAIN and waited < self._settings.drain_seconds

    async def _live(self, order: Order) -> Release:
        live = await self._registry.live()
        if order.expected and live.release_id != order.expected:
            raise Aborted(f"release {live.release_id} is live, not {order.expected}", etag=live.release_id)
        return live

    async def _nothing_to_do(self, order: Order) -> Publication:
        """The release is live already."""
        now = Publication.begin(
            order.release_id, order.release_id, actor="", reason="", override_reason="", verdict=Verdict.EXEMPT
        )
        return now.at(Step.DONE)

    async def _wait_or_refuse(self, order: Order, end: float) -> None:
        """While somebody else has the lease. Raises FailedPrecondition for a publish of another release that has not flipped."""
        current = await self._record.read()
        other = current is not None and current.release_id != order.release_id and not (current.ended or current.flipped)
        if other or time.monotonic() > end:
            raise _in_progress(current)
        await asyncio.sleep(_POLL)


def _why(publication: Publication) -> Why:
    return Why(publication.actor, publication.reason, publication.override_reason, publication.publish_id)


def _refused(release: Release, finding: Finding) -> FailedPrecondition:
    message = f"the gate does not let {release.release_id} through: {'; '.join(finding.reasons)}. Override it with a reason"
    return FailedPrecondition(message, reason="GATE_CLOSED", metadata={"verdict": finding.verdict.value})


def _in_progress(publication: Publication | None) -> FailedPrecondition:
    what = f"{publication.release_id} is being published" if publication and not publication.ended else "a prune runs"
    return FailedPrecondition(f"{what}; ask again when it is done", reason="PUBLISH_IN_PROGRESS")
