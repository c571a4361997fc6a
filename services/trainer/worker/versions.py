"""The weights versions of one job: published while it trains, loaded on the other side, and removed when they are superseded.

A job's versions are named by the job and their content, so that no other job can own them, and the same weights published again
(after a restart, say) are the same version. Only versions of this job are ever removed, and never those that a release names.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from langptune.weights import KINDS, Golden, Kind, Manifest, WeightsStore
from services.trainer.learning.ports import Saveable
from services.trainer.patience import patiently
from services.trainer.peers import Peers
from services.trainer.worker.storage import writing


class JobVersions:
    """Publishes for one job. `scratch` is a folder on the disk for models on their way into the store."""

    def __init__(self, store: WeightsStore, peers: Peers, job_id: str, scratch: Path, outage_seconds: float) -> None:
        self._store = store
        self._peers = peers
        self._job_id = job_id
        self._scratch = scratch
        self._outage_seconds = outage_seconds

    async def publish(self, kind: Kind, model: Saveable, parent: str, golden: Callable[[], Golden] | None = None) -> str:
        """Store the model as a version and load it on the service; returns its id. The job's other versions of this kind go.

        What `golden` computes goes into the manifest.
        """
        version = await asyncio.to_thread(self._store_model, kind, model, parent, golden)
        await patiently(f"the {kind}", self._outage_seconds, lambda: self._peers.load(kind, version))
        await self._discard(kind, {version})
        return version

    async def discard(self, keep: Collection[str] = ()) -> None:
        """Unload and remove all versions of the job but those in `keep`."""
        for kind in KINDS:
            await self._discard(kind, keep)

    async def _discard(self, kind: Kind, keep: Collection[str]) -> None:
        for version in await asyncio.to_thread(self._own, kind):
            if version not in keep:
                await self._peers.forget(kind, version)
                await asyncio.to_thread(self._store.remove, kind, version)

    def _own(self, kind: Kind) -> list[str]:
        return [version for version in self._store.versions(kind) if version.rpartition("-")[0] == self._prefix]

    @property
    def _prefix(self) -> str:
        return f"job-{self._job_id}"

    def _store_model(self, kind: Kind, model: Saveable, parent: str, golden: Callable[[], Golden] | None) -> str:
        origin = self._store.manifest(kind, parent)
        manifest = Manifest(
            self._prefix, kind, origin.base_model, parent=parent, job_id=self._job_id, golden=golden() if golden else None
        )
        with writing(f"a version of the {kind}", self._scratch):
            self._scratch.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._scratch, prefix="publish-") as folder:
                model.save(Path(folder) / "model")
                return self._store.add(Path(folder) / "model", manifest).version
