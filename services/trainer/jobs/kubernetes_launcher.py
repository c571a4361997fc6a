"""Workers as Kubernetes Jobs: one Indexed Job and one headless Service for each attempt.

What lives is told by the cluster alone. A trainer that starts finds the Jobs of the one before by their labels, and an attempt
cannot be started twice, by however many trainers: its Job's name is taken. A worker that is given up but still runs somewhere
(a node that cannot be reached) is fenced by the job table, which takes no word from an attempt that is over. Workers need no
permission and no lock. What has ended is removed by Kubernetes after a while (ttlSecondsAfterFinished), Service and pods with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from langptune.errors import AlreadyExists, FailedPrecondition, LangPTuneError
from services.trainer.cluster.api import ClusterApi, Object
from services.trainer.cluster.watched import Watched
from services.trainer.jobs import diagnosis
from services.trainer.jobs.kubernetes_job import (
    ATTEMPT_LABEL,
    JOB_LABEL,
    MANAGED,
    POD_JOB_LABEL,
    job_key,
    render_job,
    render_service,
)
from services.trainer.jobs.launcher import Fault, Life, Sighting
from services.trainer.settings import TrainerSettings

log = structlog.get_logger(__name__)


class KubernetesLauncher:
    """Workers in one namespace, by the settings `worker_*`."""

    keeps_workers = True

    def __init__(self, settings: TrainerSettings) -> None:
        self._settings = settings
        self._on_change: Callable[[], None] = lambda: None
        self._api = ClusterApi(settings)
        self._jobs = Watched(self._api, "job", MANAGED, self._heard_of_job)
        self._pods = Watched(self._api, "pod", MANAGED, self._heard_of_pod)
        self._last_words: dict[str, dict[str, Object]] = {}  # name of a Job -> its pods, those that are deleted, too
        self._stuck_since: dict[str, float] = {}  # name of a Job -> time.monotonic()
        self._reachable: set[str] = set()  # names of Jobs that have their Service

    async def start(self, on_change: Callable[[], None]) -> None:
        """Raises FailedPrecondition (no image set, not allowed), Unavailable."""
        self._on_change = on_change
        if not self._settings.worker_image:
            raise FailedPrecondition("LANGPTUNE_WORKER_IMAGE is not set: workers need an image", reason="NO_WORKER_IMAGE")
        await self._api.open()
        try:
            await asyncio.gather(self._jobs.start(), self._pods.start())
        except LangPTuneError:
            await self.close()
            raise

    async def close(self) -> None:
        """The Jobs go on."""
        await asyncio.gather(self._jobs.close(), self._pods.close())
        await self._api.close()

    async def launch(self, job_id: str, attempt: int, processes: int) -> None:
        """Raises FailedPrecondition also for what the cluster refuses (a quota, a policy) and for an attempt that was started."""
        manifest = render_job(job_id, attempt, processes, self._settings)
        name = manifest["metadata"]["name"]
        if (await self.see(job_id)).life is not Life.GONE:
            raise FailedPrecondition(f"a worker of job {job_id!r} is still running", reason="WORKER_RUNNING")
        try:
            created = await self._api.create("job", manifest)
        except AlreadyExists:
            raise FailedPrecondition(f"attempt {attempt} has been started already: Job {name}", reason="WORKER_RUNNING") from None
        self._jobs.put(created)
        try:
            await self._make_reachable(created)
        except LangPTuneError:
            await self._api.delete("job", name)
            raise
        log.info("job created", job=job_id, attempt=attempt, name=name)

    async def see(self, job_id: str) -> Sighting:
        """From the copies of the cluster's objects."""
        newest: Object | None = None
        for job in sorted(self._jobs_of(job_id), key=_attempt):
            newest = job
            pods = self._pods_of(job)
            if not diagnosis.has_ended(job, pods):
                return await self._standing(job, pods)
        if diagnosis.any_left(self._labelled(self._pods, job_id)):
            return Sighting(Life.RUNNING)  # its Job is deleted, and its pods are on their way out
        if newest is None:
            return Sighting(Life.GONE, "is gone")
        return diagnosis.ending(newest, list(self._last_words.get(newest["metadata"]["name"], {}).values()))

    async def stop(self, job_id: str) -> None:
        """SIGTERM; after the pods' grace period they are ended. The Job is there until they are gone."""
        for job in self._jobs_of(job_id):
            if not diagnosis.has_ended(job, self._pods_of(job)):
                await self._api.delete("job", job["metadata"]["name"], propagation="Foreground")

    async def kill(self, job_id: str) -> None:
        """The pods' processes are ended without a grace; a pod whose node cannot be reached is forgotten."""
        for job in self._jobs_of(job_id):
            pods = self._pods_of(job)
            if not diagnosis.has_ended(job, pods):
                await self._api.delete("job", job["metadata"]["name"])
                for pod in pods:
                    await self._api.delete("pod", pod["metadata"]["name"], grace_seconds=0)

    def log_of(self, job_id: str) -> str:
        return f"`kubectl logs -n {self._settings.kubernetes_namespace} -l {JOB_LABEL}={job_key(job_id)} --tail=-1`"

    def _jobs_of(self, job_id: str) -> list[Object]:
        return self._labelled(self._jobs, job_id)

    def _labelled(self, kind: Watched, job_id: str) -> list[Object]:
        key = job_key(job_id)
        return [each for each in kind.objects() if each["metadata"]["labels"].get(JOB_LABEL) == key]

    def _pods_of(self, job: Object) -> list[Object]:
        name = job["metadata"]["name"]
        return [pod for pod in self._pods.objects() if pod["metadata"]["labels"].get(POD_JOB_LABEL) == name]

    async def _standing(self, job: Object, pods: list[Object]) -> Sighting:
        try:
            await self._make_reachable(job)
        except FailedPrecondition as error:
            return Sighting(Life.WAITING, error.message, Fault.LASTING)
        seen = diagnosis.standing(job, pods)
        why = diagnosis.stuck(pods)
        return Sighting(Life.WAITING, why, Fault.LASTING) if self._in_vain(job["metadata"]["name"], why) else seen

    def _in_vain(self, name: str, why: str) -> bool:
        """Whether a container has not been able to start for too long, for whatever reasons."""
        if not why:
            self._stuck_since.pop(name, None)
            return False
        since = self._stuck_since.setdefault(name, time.monotonic())
        return time.monotonic() - since >= self._settings.worker_start_seconds

    async def _make_reachable(self, job: Object) -> None:
        """The Service of a Job; a trainer may have died between the two."""
        name = job["metadata"]["name"]
        if name in self._reachable or "deletionTimestamp" in job["metadata"]:
            return
        try:
            await self._api.create("service", render_service(job))
        except AlreadyExists:
            log.debug("service is there", name=name)
        self._reachable.add(name)

    def _heard_of_job(self, job: Object, is_there: bool) -> None:
        if not is_there:
            name = job["metadata"]["name"]
            self._last_words.pop(name, None)
            self._stuck_since.pop(name, None)
            self._reachable.discard(name)
        self._on_change()

    def _heard_of_pod(self, pod: Object, is_there: bool) -> None:
        name = pod["metadata"]["labels"].get(POD_JOB_LABEL, "")
        if is_there or self._jobs.knows(name):
            self._last_words.setdefault(name, {})[pod["metadata"]["name"]] = pod
        else:
            self._last_words.pop(name, None)
        self._on_change()


def _attempt(job: Object) -> int:
    return int(job["metadata"]["labels"].get(ATTEMPT_LABEL, "0"))
