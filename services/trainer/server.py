"""The trainer's process: Redis, the channels, the first release, both servicers, and the supervisor of the workers.

It is small and imports no torch; models are loaded in the workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
from prometheus_client.core import Metric

from langptune.rpc import run
from langptune.rpc.looking import Looking
from langptune.state import open_redis
from langptune.v1 import trainer_pb2_grpc
from langptune.weights import ReleaseRegistry, WeightsStore
from services.trainer import metrics
from services.trainer.jobs.cleaning import Cleaner
from services.trainer.jobs.control import TrainingJobs
from services.trainer.jobs.launcher import Launcher
from services.trainer.jobs.local_launcher import LocalLauncher
from services.trainer.jobs.supervisor import Supervisor
from services.trainer.jobs.table import JobTable
from services.trainer.metrics import Seen
from services.trainer.monitor import Monitor
from services.trainer.patience import patiently
from services.trainer.peers import Peers
from services.trainer.publishing.gate import Gate
from services.trainer.publishing.local_slots import LocalSlots
from services.trainer.publishing.publication import PublicationRecord
from services.trainer.publishing.publisher import Publisher
from services.trainer.publishing.releases import Releases, bootstrap
from services.trainer.publishing.replicas import Replicas
from services.trainer.publishing.retention import Retention
from services.trainer.publishing.slots import SlotLauncher, Slots
from services.trainer.publishing.verification import Verifier
from services.trainer.servicers import ReleaseServicer, TrainerServicer
from services.trainer.settings import TrainerSettings


class TrainerProcess:
    """What `langptune.rpc.run` starts and stops. When `stopping` is set, streams end and workers hand their jobs back."""

    name = "trainer"
    proto_services: Sequence[str] = ("langptune.v1.TrainerService", "langptune.v1.ReleaseService")

    def __init__(self, settings: TrainerSettings) -> None:
        self.stopping = asyncio.Event()
        self._settings = settings
        self._opened = AsyncExitStack()  # what is to be closed, the last first
        self._looking: Looking[Seen] | None = None

    async def start(self, server: grpc.aio.Server) -> None:
        """Raises FailedPrecondition when a base model is missing."""
        settings, opened = self._settings, self._opened
        client = open_redis(settings)
        opened.push_async_callback(client.aclose)
        peers, replicas = Peers(settings), Replicas(settings)
        opened.push_async_callback(peers.close)
        opened.push_async_callback(replicas.close)
        store = WeightsStore(settings.weights_uri, settings.weights_cache)
        registry = ReleaseRegistry(client)
        await patiently("the store (Redis)", settings.call_timeout, lambda: bootstrap(registry, store, settings))
        table = JobTable(client)
        launcher = _launcher(settings)
        cleaner = Cleaner(settings, store, peers, registry)
        supervisor = Supervisor(table, launcher, cleaner, settings)
        await patiently("the launcher", settings.call_timeout, lambda: launcher.start(supervisor.wake))
        opened.push_async_callback(launcher.close)
        jobs = TrainingJobs(table, registry, peers, cleaner, store, settings, on_created=supervisor.wake, stopping=self.stopping)
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(TrainerServicer(jobs), server)
        launching = _slots(settings)
        if launching is not None:
            await launching.start()
            opened.push_async_callback(launching.close)
        record = PublicationRecord(client, settings.publish_lease_seconds)
        slots = Slots(launching, store, settings) if launching is not None else None
        releases = _releases(registry, store, table, replicas, record, settings, slots)
        trainer_pb2_grpc.add_ReleaseServiceServicer_to_server(ReleaseServicer(releases), server)
        parts: list[Supervisor | Publisher | Looking[Seen]] = [supervisor, releases.publisher]
        if settings.trainer_metrics_port:
            monitor = Monitor(table, registry, record)
            self._looking = Looking(monitor.look, Seen(), settings.metrics_seconds)
            parts.append(self._looking)
        lives = [asyncio.create_task(part.run(self.stopping)) for part in parts]
        for life in lives:
            life.add_done_callback(lambda _: self.stopping.set())  # a trainer without it must not go on serving
        opened.push_async_callback(_ended, lives)

    async def stop(self) -> None:
        """Wait for the workers to hand their jobs back. Raises what the supervisor or the publisher died of."""
        self.stopping.set()
        await self._opened.aclose()

    def state(self) -> Iterable[Metric]:
        """Jobs, release and publish as the last look found them."""
        return metrics.state(*self._looking.seen()) if self._looking else ()


async def _ended(lives: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.gather(*lives)


def _releases(
    registry: ReleaseRegistry,
    store: WeightsStore,
    table: JobTable,
    replicas: Replicas,
    record: PublicationRecord,
    settings: TrainerSettings,
    slots: Slots | None,
) -> Releases:
    gate, verifier = Gate(registry, settings), Verifier(replicas, store, settings)
    retention = Retention(registry, store, table, replicas, record, settings, slots)
    publisher = Publisher(registry, record, replicas, gate, verifier, retention, settings, slots)
    return Releases(registry, publisher, gate, verifier)


def _launcher(settings: TrainerSettings) -> Launcher:
    if settings.trainer_launcher == "kubernetes":
        from services.trainer.jobs.kubernetes_launcher import KubernetesLauncher  # its library is an extra, and takes seconds

        return KubernetesLauncher(settings)
    return LocalLauncher(Path(settings.jobs_folder), settings.torch_threads)


def _slots(settings: TrainerSettings) -> SlotLauncher | None:
    if settings.tgi_slots == "kubernetes":
        from services.trainer.publishing.kubernetes_slots import KubernetesSlots  # as above

        return KubernetesSlots(settings)
    return LocalSlots(settings) if settings.tgi_slots == "local" else None


def serve(settings: TrainerSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    process = TrainerProcess(settings)
    run(settings, process, settings.trainer_port, metrics_port=settings.trainer_metrics_port, stopping=process.stopping)
