"""What a job leaves behind when it ends: its weights versions go unless a release names them, its checkpoints unless it failed,
because a failed job can be resumed. The worker's log and the event files stay.

Used by the worker at a job's end, and by the supervisor for jobs whose worker cannot do it.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from langptune.weights.releases import ReleaseRegistry
from langptune.weights.store import WeightsStore
from services.trainer.peers import Peers
from services.trainer.publishing.releases import release_of_job
from services.trainer.settings import TrainerSettings
from services.trainer.worker.versions import JobVersions


class Cleaner:
    """Cleans up after jobs."""

    def __init__(self, settings: TrainerSettings, store: WeightsStore, peers: Peers, registry: ReleaseRegistry) -> None:
        self._settings = settings
        self._store = store
        self._peers = peers
        self._registry = registry

    def folder(self, job_id: str) -> Path:
        """Everything of the job that is on this disk."""
        return Path(self._settings.jobs_folder) / job_id

    def checkpoints(self, job_id: str) -> Path:
        """The root of its checkpoints."""
        return self.folder(job_id) / "checkpoints"

    def board(self, job_id: str) -> Path:
        """Its TensorBoard event files, which stay."""
        chosen = self._settings.tensorboard_folder
        return Path(chosen) / job_id if chosen else self.folder(job_id) / "tensorboard"

    def scratch(self, job_id: str) -> Path:
        """For models on their way into the weights store."""
        return self.folder(job_id) / "scratch"

    def versions(self, job_id: str) -> JobVersions:
        """The job's versions."""
        return JobVersions(self._store, self._peers, job_id, self.scratch(job_id), self._settings.outage_seconds)

    async def clean(self, job_id: str) -> None:
        """The job has succeeded or is cancelled. Idempotent."""
        await self.clean_versions(job_id)
        for folder in (self.checkpoints(job_id), self.scratch(job_id)):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def clean_versions(self, job_id: str) -> None:
        """Unload and remove the versions that no release names; a later attempt publishes its own anew."""
        release = await release_of_job(self._registry, job_id)
        await self.versions(job_id).discard({release.encoder_version, release.decoder_version} if release else ())
