"""The versions in memory: loaded from the weights store on first use, built beside those in use, the least used leaving first.

A load with more than a few items to embed hands them to a process of its own (build.py); a version is usable once it is verified.

`writes` orders imports and the last step of a load: under it, every resident version holds exactly the catalogue.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import get_args

import structlog

from langptune.weights import WeightsStore
from services.decoder.build import Builder, Job
from services.decoder.catalogue import Catalogue
from services.decoder.embedder import Embedder
from services.decoder.index import Engine
from services.decoder.index.layout import VectorFormat
from services.decoder.resident import ResidentVersion
from services.decoder.settings import DecoderSettings
from services.decoder.worker import EmbeddingWorker

_BUILD_BATCH = 256  # items that a builder is sent at a time, for each device that it embeds on

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a load is."""

    embedded: int
    total: int


@dataclass(slots=True)
class _Load:
    """A load that runs, and who watches it."""

    progress: Progress
    task: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, embedded: int, total: int) -> None:
        self.progress = Progress(embedded, total)
        self.changed.set()
        self.changed = asyncio.Event()


class VersionPool:
    """Decoder versions by id."""

    def __init__(self, settings: DecoderSettings, store: WeightsStore, engine: Engine, catalogue: Catalogue) -> None:
        self.writes = asyncio.Lock()
        self._settings = settings
        self._store = store
        self._engine = engine
        self._catalogue = catalogue
        self._resident: OrderedDict[str, ResidentVersion] = OrderedDict()  # used longest ago first
        self._loads: dict[str, _Load] = {}
        self._files: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # who may open a version's index
        self._retiring: set[asyncio.Task[None]] = set()

    def resident(self) -> list[ResidentVersion]:
        """The usable versions, by id; from any thread."""
        return [found for _, found in sorted(dict(self._resident).items())]

    def loading(self) -> dict[str, Progress]:
        """The loads that run, and how far they are; from any thread."""
        return {version: load.progress for version, load in dict(self._loads).items()}

    @asynccontextmanager
    async def use(self, version: str) -> AsyncIterator[ResidentVersion]:
        """The version, loaded if need be, kept in memory until the block ends. Raises as `load`."""
        while version not in self._resident:
            async for _ in self.load(version):
                pass
        found = self._resident[version]
        self._resident.move_to_end(version)
        found.acquire()
        try:
            yield found
        finally:
            found.release()
            self._trim()

    @contextmanager
    def use_all(self) -> Iterator[list[ResidentVersion]]:
        """Every resident version, kept in memory until the block ends."""
        held = self.resident()
        for version in held:
            version.acquire()
        try:
            yield held
        finally:
            for version in held:
                version.release()

    async def load(self, version: str) -> AsyncIterator[Progress]:
        """Make a version usable, telling how far it is; nothing more to tell means that it is. Callers share one load.

        A caller that leaves does not end the load. Raises NotFound for a version that the weights store does not have,
        FailedPrecondition for weights that cannot be used.
        """
        if version in self._resident:
            self._resident.move_to_end(version)
            return
        load = self._loads.get(version)
        if load is None:
            load = self._loads[version] = _Load(Progress(0, len(self._catalogue)))
            load.task = asyncio.create_task(self._run(version, load))
            load.task.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen, even if all callers have left
        assert load.task is not None
        while not load.task.done():
            yield load.progress
            changed = asyncio.ensure_future(load.changed.wait())
            await asyncio.wait({load.task, changed}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        await asyncio.shield(load.task)

    async def unload(self, version: str) -> None:
        """Forget a version and its index, once its users have ended. Idempotent."""
        load = self._loads.get(version)
        if load is not None and load.task is not None:
            await asyncio.wait({load.task})
        found = self._resident.pop(version, None)
        async with self._files[version]:
            if found is not None:
                await found.close()
            for vectors in get_args(VectorFormat):
                await self._engine.drop(_index_name(version, vectors))
        log.info("version unloaded", version=version)

    def retire(self, found: ResidentVersion) -> None:
        """Take a version out of memory; its index stays on disk and is brought up to date at its next use."""
        if self._resident.get(found.version) is found:
            del self._resident[found.version]
            task = asyncio.create_task(self._close(found))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        """End loads, close every version."""
        for load in list(self._loads.values()):
            if load.task is not None:
                load.task.cancel()
                await asyncio.wait({load.task})
        for found in self.resident():
            self.retire(found)
        await asyncio.gather(*self._retiring)

    async def _run(self, version: str, load: _Load) -> None:
        try:
            async with self._files[version]:
                await self._load(version, load)
        finally:
            del self._loads[version]
        self._trim()

    async def _load(self, version: str, load: _Load) -> None:
        model = await asyncio.to_thread(self._store.local_path, "decoder", version)
        worker = EmbeddingWorker(await asyncio.to_thread(Embedder.load, model, self._settings))
        try:
            await self._build_apart(version, model, worker, load)
            found = await self._open(version, worker)
        except BaseException:
            worker.close()
            raise
        try:
            await self._bring_up_to_date(found, load)
            await found.check_embedder()
            async with self.writes:
                await self._bring_up_to_date(found, load)  # what was imported meanwhile
                await found.refresh(self._catalogue)
                self._resident[version] = found
        except BaseException:
            await found.close()
            raise
        log.info("version loaded", version=version, items=len(found.matrix), dimensions=found.dimensions)

    async def _open(self, version: str, worker: EmbeddingWorker) -> ResidentVersion:
        layout = self._settings.layout()
        index = await self._engine.open(_index_name(version, layout.vectors), worker.dimensions)
        return ResidentVersion(version, worker, index, self._settings.embedding_cache_size, layout)

    async def _build_apart(self, version: str, model: str, worker: EmbeddingWorker, load: _Load) -> None:
        """In a process of its own, if it is much: until the index has what the catalogue has now, in its graph, verified."""
        found = await self._open(version, worker)
        try:
            stale, _ = await found.stale(self._catalogue)
            waiting = await found.index.unindexed()
        finally:
            await found.index.close()
        if len(stale) + waiting <= self._settings.decoder_inline_items:
            return
        total = len(self._catalogue)
        size = _BUILD_BATCH * max(1, len(self._settings.decoder_build_devices))
        load.tell(total - len(stale), total)
        async with Builder(Job(self._settings, version, model, _index_name(version, self._settings.layout().vectors))) as builder:
            for start in range(0, len(stale), size):
                await builder.embed(await self._catalogue.get(stale[start : start + size]))
                load.tell(total - max(0, len(stale) - start - size), total)
            await builder.finish()

    async def _bring_up_to_date(self, found: ResidentVersion, load: _Load) -> None:
        stale, gone = await found.stale(self._catalogue)
        total = len(self._catalogue)
        embedded = total - len(stale)

        def progress(count: int) -> None:
            nonlocal embedded
            embedded += count
            load.tell(min(embedded, total), total)

        load.tell(embedded, total)
        if gone:
            await found.index.delete(gone)
        await found.build(self._catalogue, stale, progress)
        load.tell(total, total)

    async def _close(self, found: ResidentVersion) -> None:
        async with self._files[found.version]:
            await found.close()
        log.info("version left memory", version=found.version)

    def _trim(self) -> None:
        """Retire the versions used longest ago until no more than the setting are left; those in use and the newest stay."""
        idle = [found for found in list(self._resident.values())[:-1] if not found.in_use]
        for found in idle[: max(0, len(self._resident) - self._settings.decoder_max_resident_versions)]:
            self.retire(found)


def _index_name(version: str, vectors: VectorFormat) -> str:
    """An index in another number format is another one."""
    return f"version-{version}" if vectors == "float32" else f"{vectors}-version-{version}"
