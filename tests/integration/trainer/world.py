"""A small system around a real trainer: Redis, encoder and decoder processes with the sample models, and a small sample world."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from langptune.convert import item_to_proto
from langptune.data.dataset import Dataset
from langptune.local.process import free_port
from langptune.rpc import open_channel
from langptune.v1 import decoder_pb2, decoder_pb2_grpc, trainer_pb2, trainer_pb2_grpc
from tests.support.otlp import Collector
from tests.support.processes import ROOT, RunningService, await_serving, start_service

ENDED = {trainer_pb2.JOB_STATE_SUCCEEDED, trainer_pb2.JOB_STATE_FAILED, trainer_pb2.JOB_STATE_CANCELLED}
MAX_RESTARTS = 3
MODELS = ROOT / "samples" / "models"


class Client:
    """Both services of the trainer, and the calls that tests make again and again."""

    def __init__(self, channel: Any) -> None:
        self.jobs = trainer_pb2_grpc.TrainerServiceStub(channel)
        self.releases = trainer_pb2_grpc.ReleaseServiceStub(channel)

    async def create(self, spec: trainer_pb2.TrainingSpec, job_id: str = "") -> trainer_pb2.TrainingJob:
        request = trainer_pb2.CreateTrainingJobRequest(spec=spec, job_id=job_id)
        return (await self.jobs.CreateTrainingJob(request)).job

    async def get(self, job_id: str) -> trainer_pb2.TrainingJob:
        return (await self.jobs.GetTrainingJob(trainer_pb2.GetTrainingJobRequest(job_id=job_id))).job

    async def cancel(self, job_id: str) -> trainer_pb2.TrainingJob:
        return (await self.jobs.CancelTrainingJob(trainer_pb2.CancelTrainingJobRequest(job_id=job_id))).job

    async def resume(self, job_id: str, **guards: str) -> trainer_pb2.TrainingJob:
        overrides = {f"guards.{name.replace('__', '.')}": value for name, value in guards.items()}
        return (await self.jobs.ResumeTrainingJob(trainer_pb2.ResumeTrainingJobRequest(job_id=job_id, overrides=overrides))).job

    async def watch(
        self, job_id: str, after: int = 0, until: Callable[[trainer_pb2.TrainingEvent], bool] = lambda _: False
    ) -> list[trainer_pb2.TrainingEvent]:
        """Events up to and including the first for which `until` holds, else to the job's end."""
        events: list[trainer_pb2.TrainingEvent] = []
        request = trainer_pb2.WatchTrainingJobRequest(job_id=job_id, after_sequence=after)
        async for answer in self.jobs.WatchTrainingJob(request, timeout=600.0):
            events.append(answer.event)
            if until(answer.event):
                break
        return events

    async def publish(self, release_id: str, expected: str = "") -> trainer_pb2.PublishReleaseResponse:
        request = trainer_pb2.PublishReleaseRequest(release_id=release_id, expected_live_release_id=expected, reason="test")
        answer: trainer_pb2.PublishReleaseResponse = await self.releases.PublishRelease(request)
        return answer

    async def live(self) -> trainer_pb2.Release:
        return (await self.releases.GetLiveRelease(trainer_pb2.GetLiveReleaseRequest())).release


class World:
    """Addresses and folders, and the trainer, which tests stop and start."""

    def __init__(self, folder: Path, redis_url: str, dataset: Dataset, collector: Collector) -> None:
        self.folder = folder
        self.dataset = dataset
        self.collector = collector  # of the traces of all of them, the workers included
        self.port = free_port()
        self.env = {
            "LANGPTUNE_REDIS_URL": redis_url,
            "LANGPTUNE_WEIGHTS_URI": str(folder / "weights"),
            "LANGPTUNE_WEIGHTS_CACHE": str(folder / "cache"),
            "LANGPTUNE_PROFILE_MODEL": str(MODELS / "profile-writer"),
            "LANGPTUNE_EMBEDDING_MODEL": str(MODELS / "embedder"),
            "LANGPTUNE_DECODER_DATA": str(folder / "decoder"),
            "LANGPTUNE_DECODER_MIN_FREE_DISK": "0",
            "LANGPTUNE_JOBS_FOLDER": str(folder / "jobs"),
            "LANGPTUNE_CHECKPOINT_SECONDS": "0",
            "LANGPTUNE_POLL_SECONDS": "0.1",
            "LANGPTUNE_OUTAGE_SECONDS": "3",
            "LANGPTUNE_MAX_RESTARTS": str(MAX_RESTARTS),
            "LANGPTUNE_DRAIN_SECONDS": "0.5",
            "LANGPTUNE_PUBLISH_LEASE_SECONDS": "1",
            "LANGPTUNE_GATE_MIN_USERS": "2",
            "PYTHONWARNINGS": "default",
            **collector.settings(),
        }
        self.encoder = start_service("encoder", folder, self.env, wait=0)
        self.decoder = start_service("decoder", folder, self.env, wait=0)
        await_serving(self.encoder)
        await_serving(self.decoder)
        self.env |= {"LANGPTUNE_ENCODER_ADDRESS": self.encoder.address, "LANGPTUNE_DECODER_ADDRESS": self.decoder.address}
        self.trainer: RunningService = self.start_trainer()

    def start_trainer(self) -> RunningService:
        self.trainer = start_service("trainer", self.folder, self.env, port=self.port)
        return self.trainer

    def stop(self) -> None:
        running = [service for service in (self.trainer, self.encoder, self.decoder) if service.process.poll() is None]
        for service in running:
            service.process.terminate()
        for service in running:
            service.process.wait(30)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        channel = open_channel(self.trainer.address)
        try:
            await channel.ready(10.0)  # a restarted trainer: gRPC may still be waiting before it tries the address again
            yield Client(channel)
        finally:
            await channel.close()

    async def import_catalogue(self) -> None:
        channel = open_channel(self.decoder.address)
        try:

            async def messages() -> AsyncIterator[decoder_pb2.ImportItemsRequest]:
                yield decoder_pb2.ImportItemsRequest(items=[item_to_proto(item) for item in self.dataset.items.values()])

            answer = await decoder_pb2_grpc.DecoderServiceStub(channel).ImportItems(messages())
            assert answer.rejected == 0
        finally:
            await channel.close()

    def spec(self, **values: Any) -> trainer_pb2.TrainingSpec:
        """A job of two CL and two RLSO batches and one more of CL, unless `values` say otherwise."""
        sizes = {"rlso.histories": "4", "rlso.samples": "2", "rlso.epochs": "1", "rlso.max_new_tokens": "24"}
        overrides = {**sizes, "contrastive.batch_size": "8", **values.pop("overrides", {})}
        defaults = {"cl_batches": 2, "rlso_batches": 2, "final_cl_batches": 1, "seed": 7}
        return trainer_pb2.TrainingSpec(dataset_uri=str(self.dataset.folder), overrides=overrides, **(defaults | values))

    def worker_pid(self, job_id: str) -> int:
        return int((self.folder / "jobs" / job_id / "worker.lock").read_text())

    def worker_log(self, job_id: str) -> str:
        return (self.folder / "jobs" / job_id / "worker.log").read_text()

    def checkpoints(self, job_id: str) -> list[str]:
        """The job's checkpoints, oldest first."""
        return sorted(path.name for path in (self.folder / "jobs" / job_id / "checkpoints").glob("*"))

    def stored(self, kind: str, job_id: str) -> set[str]:
        """The job's versions in the weights store."""
        return {path.parent.name for path in (self.folder / "weights" / kind).glob(f"job-{job_id}-*/manifest.json")}


def is_step(number: int) -> Callable[[trainer_pb2.TrainingEvent], bool]:
    return lambda event: event.step_done.step == number


def await_gone(pid: int, wait: float = 20.0) -> None:
    """Return once no process (other than a zombie) has this id."""
    end = time.monotonic() + wait
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} still runs")
