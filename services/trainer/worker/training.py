"""One training job from its first to its last step, in the worker: models, Algorithm 1, checkpoints, validation, candidate.

The learning core does the learning; here it is given its data and its two doors, listened to, and interrupted between two steps.
Where a job is told of and where its state is kept is behind `Journal`; the process around it is `worker`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, closing
from dataclasses import asdict

import structlog

from langptune.convert import metrics_to_proto
from langptune.data.dataset import Dataset
from langptune.domain import Session
from langptune.errors import FailedPrecondition
from langptune.v1 import trainer_pb2
from langptune.weights import Evaluation, Measurement, Release, ReleaseRegistry, WeightsStore
from services.trainer.jobs.cleaning import Cleaner
from services.trainer.jobs.control import dataset_folder
from services.trainer.jobs.job import Job
from services.trainer.jobs.spec import resolve
from services.trainer.learning.algorithm import Algorithm, Sources
from services.trainer.learning.checkpoint import Checkpoints
from services.trainer.learning.config import LearningConfig
from services.trainer.learning.progress import Progress
from services.trainer.learning.randomness import seed_all
from services.trainer.learning.schedule import plan
from services.trainer.learning.team import Models, Processes, alone, lead
from services.trainer.peers import Peers
from services.trainer.publishing.releases import release_of_job
from services.trainer.settings import TrainerSettings
from services.trainer.worker.board import Board
from services.trainer.worker.journal import Journal
from services.trainer.worker.rewards import DecoderRewards
from services.trainer.worker.rollouts import EncoderRollouts
from services.trainer.worker.storage import writing
from services.trainer.worker.validation import VALIDATION_CUTOFF, KeptMeasurement, Validated, Validation

log = structlog.get_logger(__name__)


class Interrupted(Exception):
    """Raised between two steps, to leave the job where it can go on later."""


class Training:
    """A job's attempt. `between_steps` raises Interrupted where it is to stop."""

    def __init__(
        self,
        job: Job,
        settings: TrainerSettings,
        *,
        store: WeightsStore,
        registry: ReleaseRegistry,
        peers: Peers,
        cleaner: Cleaner,
        journal: Journal,
        between_steps: Callable[[], Awaitable[None]],
        processes: Processes | None,
    ) -> None:
        """`processes` are those that this one leads, if it is not alone."""
        resolved = resolve(job.effective_spec(), settings.validation_users)
        self._job = job
        self._settings = settings
        self._config: LearningConfig = resolved.config
        self._validation_users = int(job.resolved["validation_users"])
        self._store = store
        self._registry = registry
        self._peers = peers
        self._versions = cleaner.versions(job.job_id)
        self._checkpoints = Checkpoints(cleaner.checkpoints(job.job_id), settings.checkpoints_kept)
        self._journal = journal
        self._board = Board(cleaner.board(job.job_id))
        self._between_steps = between_steps
        self._processes = processes
        self._saved = (0, time.monotonic())  # step and time of the last checkpoint

    async def run(self) -> Release:
        """Do what is left of the job; returns its release candidate."""
        with closing(self._board):
            return await self._run()

    async def _run(self) -> Release:
        parent = await self._registry.get(self._job.parent_release_id)
        data = await asyncio.to_thread(Dataset.open, dataset_folder(self._job.spec.dataset_uri))
        self._dataset = data.content_hash
        self._rollouts = EncoderRollouts(
            self._peers, self._versions, self._settings, version=parent.encoder_version, domain=data.domain
        )
        self._rewards = DecoderRewards(self._peers, self._versions, self._settings, version=parent.decoder_version)
        validation = Validation(
            await asyncio.to_thread(self._validation_sessions, data),
            self._rollouts,
            self._rewards,
            self._config,
            chunk=self._settings.rollout_chunk,
            between=self._between_steps,
        )
        before = await self._before(parent, validation)
        algorithm = await asyncio.to_thread(self._algorithm, data, parent)
        await self._learn(algorithm)
        await self._publish(algorithm)
        after = await self._validate("after", validation)
        return await self._candidate(parent, validation, before, after)

    async def _learn(self, algorithm: Algorithm) -> None:
        """All steps that are left, with a checkpoint now and then, at the end, and where it is interrupted."""
        if algorithm.done:
            await self._journal.note(f"goes on after step {algorithm.done} of {len(algorithm.plan)}")
        self._saved = (algorithm.done, time.monotonic())
        await self._between_steps()
        async with aclosing(algorithm.run()) as steps:
            async for progress in steps:
                await self._tell(_step_event(progress))
                await self._heed(progress)
                if time.monotonic() - self._saved[1] >= self._settings.checkpoint_seconds:
                    await self._save(algorithm)
                try:
                    await self._between_steps()
                except Interrupted:
                    await self._save(algorithm)
                    raise
        await self._save(algorithm)

    async def _heed(self, progress: Progress) -> None:
        """Tell of the guards that fired. Raises FailedPrecondition, reason GUARD, when one of them stops the job: it can be
        resumed from its best checkpoint, and none later is kept."""
        for alarm in progress.alarms:
            fired = trainer_pb2.GuardFired(**asdict(alarm))
            await self._tell(trainer_pb2.TrainingEvent(guard_fired=fired))
        reasons = [alarm.message for alarm in progress.alarms if alarm.stops]
        if reasons:
            best = await asyncio.to_thread(self._checkpoints.rewind_to_best)
            kept = f"the best checkpoint, of step {best}, is kept" if best else "there is no checkpoint yet"
            what = f"stopped by a guard after step {progress.step} of {progress.total}: {'; '.join(reasons)}"
            raise FailedPrecondition(f"{what}; {kept}", reason="GUARD")

    async def _tell(self, event: trainer_pb2.TrainingEvent) -> None:
        """To those who watch, and to the event files."""
        await self._journal.record(event)
        self._board.record(event)

    async def _save(self, algorithm: Algorithm) -> None:
        if algorithm.done != self._saved[0]:
            state = algorithm.state_dict()
            state["run"]["job"] = {
                "created_ms": self._job.create_time_ms,
                "dataset": self._dataset,
                "parent": self._job.parent_release_id,
            }
            with writing("a checkpoint", self._checkpoints.root):
                await asyncio.to_thread(self._checkpoints.save, algorithm.done, state, algorithm.score)
        self._saved = (algorithm.done, time.monotonic())

    def _algorithm(self, data: Dataset, parent: Release) -> Algorithm:
        """With the models that its plan needs, at the newest checkpoint if there is one."""
        seed_all(self._config.seed)
        phases = {step.phase for step in plan(self._config)}
        models = Models(
            self._config,
            self._store.local_path("encoder", parent.encoder_version) if "rlso" in phases else None,
            self._store.local_path("decoder", parent.decoder_version) if "cl" in phases else None,
        )
        learners = lead(models, self._processes) if self._processes else alone(models)
        rollouts = self._rollouts if self._config.profile_source == "profile" else None
        sources = Sources(rollouts, self._rewards)
        algorithm = Algorithm(self._config, data.sessions("train"), data.items, learners, sources)
        self._restore(algorithm)
        return algorithm

    def _restore(self, algorithm: Algorithm) -> None:
        """Go on from the newest checkpoint, if there is one of this job (and not of an earlier one of its name).

        Raises FailedPrecondition, reason DATASET_CHANGED, when the data set is not the one that the checkpoint was learnt from.
        """
        state = self._checkpoints.load()
        if state is None:
            return
        made_by = state["run"]["job"]
        if made_by["created_ms"] != self._job.create_time_ms:
            log.warning("checkpoints of another job removed", folder=str(self._checkpoints.root), job=made_by)
            self._checkpoints.clear()
        elif made_by["dataset"] != self._dataset:
            message = f"{self._job.spec.dataset_uri} has changed since the job began: it cannot go on with other data"
            raise FailedPrecondition(message, reason="DATASET_CHANGED")
        else:
            algorithm.load_state_dict(state)

    async def _publish(self, algorithm: Algorithm) -> None:
        """The final weights, where they are not those that the services have already."""
        learners = algorithm.learners
        if learners.policy is not None:
            await self._rollouts.use(learners.policy)
        if learners.embedder is not None:
            await self._rewards.use(learners.embedder)

    def _validation_sessions(self, data: Dataset) -> list[Session]:
        return data.sessions("validation")[: self._validation_users]

    async def _validate(self, label: str, validation: Validation) -> Validated | None:
        """Measure and tell."""
        found = await validation.run()
        if found is not None:
            metrics = metrics_to_proto(found.quality, cutoff=VALIDATION_CUTOFF, users=len(validation.sessions))
            done = trainer_pb2.ValidationDone(label=label, metrics=metrics)
            await self._tell(trainer_pb2.TrainingEvent(validation_done=done))
        return found

    async def _before(self, parent: Release, validation: Validation) -> Measurement | None:
        """The parent release on the validation users; an earlier attempt may have measured it."""
        kept = KeptMeasurement(self._checkpoints.root / "before.json")
        known = await asyncio.to_thread(kept.read)
        if known is not None and known.release_id == parent.release_id and await self._journal.has_validation("before"):
            return known
        found = await self._validate("before", validation)
        if found is None:
            return None
        await kept.write(found.measurement(parent.release_id))
        return found.measurement(parent.release_id)

    async def _candidate(
        self, parent: Release, validation: Validation, before: Measurement | None, after: Validated | None
    ) -> Release:
        """The job's release; the one that it made already if it was ended between making and telling."""
        release = await release_of_job(self._registry, self._job.job_id)
        if release is None:
            counts = {"cutoff": float(VALIDATION_CUTOFF), "users": float(len(validation.sessions))}
            release = await self._registry.create(
                self._rollouts.version,
                self._rewards.version,
                parent_release_id=parent.release_id,
                job_id=self._job.job_id,
                validation={**asdict(after.quality), **counts} if after else None,
                evaluation=self._evaluation(validation, before, after),
            )
        made = trainer_pb2.CandidateMade(release_id=release.release_id)
        await self._journal.record(trainer_pb2.TrainingEvent(candidate_made=made))
        return release

    def _evaluation(self, validation: Validation, before: Measurement | None, after: Validated | None) -> Evaluation | None:
        """For the gate."""
        if before is None or after is None:
            return None
        users = tuple(session.user_id for session in validation.sessions)
        return Evaluation(self._job.spec.dataset_uri, VALIDATION_CUTOFF, users, before, after.measurement(""))


def _step_event(progress: Progress) -> trainer_pb2.TrainingEvent:
    done = trainer_pb2.StepDone(
        phase=progress.phase,
        outer_iteration=progress.outer,
        step=progress.step,
        steps_total=progress.total,
        metrics=progress.metrics(),
    )
    return trainer_pb2.TrainingEvent(step_done=done)
