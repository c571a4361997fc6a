"""What may go: versions in memory that nobody is sent to any more, and weights that no kept release and no open job names.

In memory stay the versions of the live release, of the one before it, of the newest release (the candidate that may be next),
of a publish and of jobs that are open, and of whatever answered users until `drain_seconds` ago. Where encoder versions are in
slots, which are two, only those stay that answer users, or did so lately, or are being published. In the store stay those of the
newest `releases_kept` releases besides; an older release is marked as retired before its weights are removed. Both run under the
publish lease. Base versions are never removed: they hold no files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from langptune.errors import LangPTuneError, NotFound
from langptune.weights import KINDS, Kind, Release, ReleaseRegistry, WeightsStore
from services.trainer.jobs.table import JobTable
from services.trainer.publishing.publication import PublicationRecord, Step, now_ms
from services.trainer.publishing.replicas import Replica, Replicas
from services.trainer.publishing.slots import Slots
from services.trainer.settings import TrainerSettings

log = structlog.get_logger(__name__)

_PAGE = 100  # releases read at once
_MOVES = 1_000  # moves of the pointer that are looked at
_JOB = "job-{}-"  # how the versions of a job begin


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed from the weights store."""

    release_ids: list[str] = field(default_factory=list)
    versions: dict[Kind, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})


class Retention:
    """Callers hold the publish lease."""

    def __init__(
        self,
        registry: ReleaseRegistry,
        store: WeightsStore,
        jobs: JobTable,
        replicas: Replicas,
        record: PublicationRecord,
        settings: TrainerSettings,
        slots: Slots | None = None,
    ) -> None:
        self._slots = slots
        self._registry = registry
        self._store = store
        self._jobs = jobs
        self._replicas = replicas
        self._record = record
        self._settings = settings

    async def unload(self) -> None:
        """Have every replica forget the versions that are not needed, then stop the slots that had them.

        A replica that cannot be reached is left alone.
        """
        for kind in KINDS:
            try:
                replicas = await self._replicas.of(kind)
                await asyncio.gather(*(self._unload(replica) for replica in replicas))
            except LangPTuneError as error:
                log.warning("versions not unloaded", kind=kind, error=error.message)
        if self._slots is not None:
            await self._slots.retire({release.encoder_version for release in await self._found(await self._answering())})

    async def prune(self, keep: int) -> Pruned:
        """Retire what is older than the newest `keep` releases, and remove from the store what nothing names any more."""
        pruned = Pruned()
        stored = {kind: await asyncio.to_thread(self._store.versions, kind) for kind in KINDS}  # first: what is added later stays
        await self._retire_old(keep, pruned)
        open_jobs = await self._jobs.open_jobs()
        named = {(kind, release.version(kind)) for release in await self._releases(lambda r: not r.retired) for kind in KINDS}
        for job in open_jobs:
            parent = await self._registry.get(job.parent_release_id)
            named |= {(kind, parent.version(kind)) for kind in KINDS}
        own = tuple(_JOB.format(job.job_id) for job in open_jobs)
        for kind in KINDS:
            for version in stored[kind]:
                if version.startswith("job-") and not version.startswith(own) and (kind, version) not in named:
                    await asyncio.to_thread(self._store.remove, kind, version)
                    pruned.versions[kind].append(version)
        if pruned.release_ids or any(pruned.versions.values()):
            log.info("pruned", releases=pruned.release_ids, versions=pruned.versions)
        return pruned

    async def _retire_old(self, keep: int, pruned: Pruned) -> None:
        needed = {release.release_id for release in await self._needed()}
        for release in (await self._releases(lambda r: not r.retired))[keep:]:
            if release.release_id not in needed:
                await self._registry.retire(release.release_id)
                pruned.release_ids.append(release.release_id)

    async def _unload(self, replica: Replica) -> None:
        loaded = await replica.versions()  # before what is needed: a version that a job adds meanwhile is not looked at
        own = tuple(_JOB.format(job.job_id) for job in await self._jobs.open_jobs())  # before the releases that they may become
        in_slots = self._slots is not None and replica.kind == "encoder"
        releases = await self._found(await self._answering()) if in_slots else await self._needed()
        needed = {release.version(replica.kind) for release in releases}
        for version in sorted(loaded - needed):
            if not version.startswith(own):
                await replica.unload(version)
                log.info("version unloaded", kind=replica.kind, address=replica.address, version=version)

    async def _needed(self) -> list[Release]:
        """The releases whose versions must be ready, or will be soon."""
        names = {job.parent_release_id for job in await self._jobs.open_jobs()}
        names |= {release.release_id for release in await self._registry.page(1)}
        names |= {move.previous for move in await self._registry.history(1)}
        return await self._found(names | await self._answering())

    async def _answering(self) -> set[str]:
        """Ids of the releases that answer users, did so until a short while ago, or are being published."""
        names = set()
        publication = await self._record.read()
        if publication is not None and not publication.ended:
            names.add(publication.release_id)
        drained = publication.release_id if publication is not None and publication.step in (Step.RETIRE, Step.DONE) else ""
        recent = now_ms() - self._settings.drain_seconds * 1_000
        for at, move in enumerate(await self._registry.history(_MOVES)):
            if at == 0:
                names.add(move.release_id)
            if move.at_ms >= recent and not (at == 0 and move.release_id == drained):
                names.add(move.previous)
        return names

    async def _found(self, names: set[str]) -> list[Release]:
        return [release for name in sorted(names - {""}) if (release := await self._find(name))]

    async def _find(self, release_id: str) -> Release | None:
        try:
            return await self._registry.get(release_id)
        except NotFound:
            return None

    async def _releases(self, wanted: Callable[[Release], bool]) -> list[Release]:
        """Newest first."""
        found: list[Release] = []
        before = ""
        while page := await self._registry.page(_PAGE, before):
            found += filter(wanted, page)
            before = page[-1].release_id
        return found
