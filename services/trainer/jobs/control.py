"""What TrainerService does, without its transport: admit jobs, show them, cancel them, tell what happens in them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from langptune.convert import check_id
from langptune.data.dataset import Dataset
from langptune.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from langptune.v1 import decoder_pb2, trainer_pb2
from langptune.weights.releases import Release, ReleaseRegistry
from langptune.weights.store import Kind, WeightsStore
from services.trainer.jobs.architecture import Writer, reader, writer
from services.trainer.jobs.cleaning import Cleaner
from services.trainer.jobs.job import Job
from services.trainer.jobs.planning import check_batches, check_models, plan_job
from services.trainer.jobs.spec import ResolvedSpec, named_as_in, resolve
from services.trainer.jobs.table import JobTable
from services.trainer.peers import Peers
from services.trainer.settings import TrainerSettings

MAX_JOB_ID = 64  # characters: the id is part of folder names and version ids
_BATCH = 1_000  # ids of one BatchGetItems call
_SPLITS = ("train", "validation")  # whose targets must be in the catalogue
_WAIT_MS = 1_000  # longest wait in Redis for the next event; well below the client's own deadline of a command


class TrainingJobs:
    """`on_created` is called when a job has been added or resumed; `stopping` ends the streams."""

    def __init__(
        self,
        jobs: JobTable,
        registry: ReleaseRegistry,
        peers: Peers,
        cleaner: Cleaner,
        store: WeightsStore,
        settings: TrainerSettings,
        *,
        on_created: Callable[[], None],
        stopping: asyncio.Event,
    ) -> None:
        self.table = jobs
        self._registry = registry
        self._peers = peers
        self._cleaner = cleaner
        self._store = store
        self._settings = settings
        self._on_created = on_created
        self._stopping = stopping

    async def create(self, spec: trainer_pb2.TrainingSpec, job_id: str) -> Job:
        """Idempotent by job id. Raises what CreateTrainingJob promises."""
        job_id = _checked_job_id(job_id)
        try:
            return await self.table.same(job_id, spec)
        except NotFound:
            resolved, parent = await self._checked(spec)
        job = await self.table.create(
            job_id, spec, resolved=resolved.described(), parent_release_id=parent.release_id, steps_total=resolved.steps
        )
        await self._require_weights(job)
        self._on_created()
        return job

    async def plan(self, spec: trainer_pb2.TrainingSpec) -> tuple[trainer_pb2.TrainingJob, trainer_pb2.TrainingPlan]:
        """What `create` would make, and what it would take. Raises what `create` raises; FailedPrecondition: unknown model."""
        resolved, parent = await self._checked(spec)
        config = resolved.config
        encoder = writer(self._base("encoder", parent)) if config.rlso_updates else None
        decoder = reader(self._base("decoder", parent)) if config.contrastive_updates else None
        job = trainer_pb2.TrainingJob(spec=spec, resolved=resolved.described(), steps_total=resolved.steps)
        return job, plan_job(config, encoder, decoder, self._settings.assumed_flops)

    async def _checked(self, spec: trainer_pb2.TrainingSpec) -> tuple[ResolvedSpec, Release]:
        resolved = resolve(spec, self._settings.validation_users)
        users = await self._check_data(spec.dataset_uri)
        parent = await self._parent(spec.parent_release_id)
        with named_as_in(spec):
            check_batches(resolved.config, users)
            if resolved.config.rlso_updates:
                check_models(resolved.config, self._known_writer(parent))
        return resolved, parent

    def _known_writer(self, parent: Release) -> Writer | None:
        try:
            return writer(self._base("encoder", parent))
        except (
            FailedPrecondition,
            NotFound,
        ):  # a job may train what no plan can be made for; weights that are gone are told of later
            return None

    def _base(self, kind: Kind, release: Release) -> str:
        version = release.encoder_version if kind == "encoder" else release.decoder_version
        return self._store.manifest(kind, version).base_model

    async def cancel(self, job_id: str) -> Job:
        """Raises NotFound, FailedPrecondition when the job has succeeded."""
        job = await self.table.request_cancel(job_id)
        if job.ended:  # it waited or had failed; a running one is cleaned up by its worker
            await self._cleaner.clean(job_id)
        return job

    async def resume(self, job_id: str, overrides: Mapping[str, str]) -> Job:
        """Have a failed job go on from its checkpoint. Raises NotFound, InvalidArgument, FailedPrecondition."""
        job = await self.table.get(job_id)
        for name in overrides:
            if not name.startswith("guards."):
                raise InvalidArgument(f"overrides[{name}]", "cannot change in a job that has begun; only guards can")
        changed = replace(job, later_overrides={**job.later_overrides, **overrides})
        try:
            resolved = resolve(changed.effective_spec(), int(job.resolved["validation_users"]))
        except InvalidArgument as error:
            raise InvalidArgument(error.field.removeprefix("spec."), error.message.removeprefix(f"{error.field}: ")) from None
        job = await self.table.resume(job_id, changed.later_overrides, resolved.described())
        self._on_created()
        return job

    async def watch(self, job_id: str, after: int) -> AsyncIterator[trainer_pb2.TrainingEvent]:
        """Events after sequence number `after`, until the job has ended. Raises NotFound; Unavailable when the trainer stops."""
        if after < 0:
            raise InvalidArgument("after_sequence", "must be 0 or more")
        while True:
            ended = (await self.table.get(job_id)).ended  # read before the events: then they are all there
            events = await self.table.events(job_id, after, wait_ms=0 if ended else _WAIT_MS)
            for event in events:
                yield event
                after = event.sequence
            if ended and not events:
                return
            if self._stopping.is_set():
                raise Unavailable(f"the trainer is shutting down; watch again after sequence {after}", reason="SHUTTING_DOWN")

    async def _parent(self, release_id: str) -> Release:
        if release_id:
            return await self._registry.get(release_id)
        return await self._registry.live()

    async def _require_weights(self, job: Job) -> None:
        """Asked after the job is in the table, where a prune looks: either it has left the parent's weights, or we see it now."""
        if (await self._registry.get(job.parent_release_id)).retired:
            await self.cancel(job.job_id)
            message = f"the weights of release {job.parent_release_id} have been removed"
            raise FailedPrecondition(message, reason="RELEASE_RETIRED")

    async def _check_data(self, uri: str) -> int:
        """Returns the number of training users."""
        targets, users = await asyncio.to_thread(_targets_and_users, dataset_folder(uri))
        missing = 0
        for start in range(0, len(targets), _BATCH):
            request = decoder_pb2.BatchGetItemsRequest(item_ids=targets[start : start + _BATCH])
            missing += len((await self._peers.decoder.BatchGetItems(request)).unknown_item_ids)
        if missing:
            message = (
                f"spec.dataset_uri: {missing:,} of {len(targets):,} target items are not in the catalogue; import them first"
            )
            raise FailedPrecondition(message, reason="ITEMS_NOT_IN_CATALOGUE", metadata={"missing": str(missing)})
        return users


def dataset_folder(uri: str) -> Path:
    """The folder that a dataset_uri names. Raises InvalidArgument for another scheme than file."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme != "file":
        raise InvalidArgument("spec.dataset_uri", f"must be a folder or a file:// URI, not {scheme}://")
    return Path(rest if separator else uri)


def _targets_and_users(folder: Path) -> tuple[list[str], int]:
    """The targets of training and validation sessions, each once, and the number of training users.

    Raises FailedPrecondition for a folder that is no data set.
    """
    Dataset.open(folder)
    table = pq.read_table(
        folder / "sessions.parquet", columns=["targets", "split"], filters=[("split", "in", ("train", "validation"))]
    )
    found = {target for targets in table.column("targets").to_pylist() for target in targets}
    if not found:
        raise FailedPrecondition(f"{folder} holds no training sessions", reason="EMPTY_DATASET")
    return sorted(found), table.column("split").to_pylist().count("train")


def _checked_job_id(job_id: str) -> str:
    if not job_id:
        return uuid.uuid4().hex[:12]
    if len(job_id) > MAX_JOB_ID:
        raise InvalidArgument("job_id", f"must be at most {MAX_JOB_ID} characters long")
    return check_id("job_id", job_id)
