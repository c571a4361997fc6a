"""A publisher with two slots, in one process: a real Redis, a real encoder over gRPC on the TGI engine, a decoder that agrees.

TGI is its stand-in, in two Deployments of the stand-in cluster; versions are micro models that write different texts.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import redis.asyncio as redis
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from langptune.convert import history_to_proto
from langptune.rpc import open_channel
from langptune.rpc.interceptors import CallInterceptor
from langptune.v1 import decoder_pb2, encoder_pb2
from langptune.v1.decoder_pb2_grpc import DecoderServiceServicer, add_DecoderServiceServicer_to_server
from langptune.v1.encoder_pb2_grpc import EncoderServiceStub, add_EncoderServiceServicer_to_server
from langptune.weights import Golden, Manifest, Release, ReleaseRegistry, WeightsStore
from services.encoder.engines.tgi import TgiEngine
from services.encoder.servicer import EncoderServicer
from services.encoder.settings import EncoderSettings
from services.trainer.jobs.table import JobTable
from services.trainer.publishing.gate import Gate
from services.trainer.publishing.kubernetes_slots import KubernetesSlots
from services.trainer.publishing.publication import PublicationRecord
from services.trainer.publishing.publisher import Order, Publisher
from services.trainer.publishing.replicas import Replicas
from services.trainer.publishing.retention import Retention
from services.trainer.publishing.slots import Slots
from services.trainer.publishing.verification import Verifier
from services.trainer.settings import TrainerSettings
from tests.support.kubernetes_api import KubernetesApi
from tests.support.micro_writer import interaction, save_micro_writer
from tests.support.tgi_slots import TgiDeployments

_HISTORY = history_to_proto([interaction("One", "A long tale."), interaction("Two")])


class Decoder(DecoderServiceServicer):
    """Has whatever it is asked for."""

    def __init__(self, store: WeightsStore) -> None:
        self._store = store
        self._loaded: set[str] = set()

    async def LoadDecoderVersion(self, request: Any, context: Any) -> AsyncIterator[decoder_pb2.LoadDecoderVersionResponse]:  # noqa: N802
        self._loaded.add(request.decoder_version)
        yield decoder_pb2.LoadDecoderVersionResponse(done=True)

    async def UnloadDecoderVersion(self, request: Any, context: Any) -> decoder_pb2.UnloadDecoderVersionResponse:  # noqa: N802
        self._loaded.discard(request.decoder_version)
        return decoder_pb2.UnloadDecoderVersionResponse()

    async def ListDecoderVersions(self, request: Any, context: Any) -> decoder_pb2.ListDecoderVersionsResponse:  # noqa: N802
        return decoder_pb2.ListDecoderVersionsResponse()

    async def VerifyDecoderVersion(self, request: Any, context: Any) -> decoder_pb2.VerifyDecoderVersionResponse:  # noqa: N802
        digest = self._store.deployed_digest("decoder", request.decoder_version)
        return decoder_pb2.VerifyDecoderVersionResponse(digest=digest, items=1, catalogue_items=1)


class Died(BaseException):
    """The process is gone."""


class MortalRedis(redis.Redis):
    """The connection of a process that dies when its publish has come to a step: nothing of it reaches anything after that."""

    dies_at: str = ""  # a Step, or "slot": when it has asked for a slot
    dead = False

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        if self.dead:
            raise Died
        answer = await super().execute_command(*arguments, **options)
        if self.dies_at:
            stored = await super().execute_command("GET", "langptune:publish")
            self.dead |= stored is not None and json.loads(stored)["step"] == self.dies_at  # it may have died meanwhile
        if self.dead:
            raise Died
        return answer


class MortalSlots(KubernetesSlots):
    """The slots of such a process."""

    def __init__(self, settings: TrainerSettings, client: MortalRedis) -> None:
        super().__init__(settings)
        self._redis = client

    async def bring_up(self, name: str, model: str) -> None:
        if self._redis.dead:
            raise Died
        await super().bring_up(name, model)
        if self._redis.dies_at == "slot":
            self._redis.dead = True
            raise Died


class Trainer:
    """A trainer's publisher, with connections of its own."""

    def __init__(self, world: World, dies_at: str) -> None:
        settings = world.settings
        self._redis: Any = MortalRedis.from_url(world.redis_url)
        self._redis.dies_at = dies_at
        self.registry = ReleaseRegistry(self._redis)
        self.record = PublicationRecord(self._redis, settings.publish_lease_seconds)
        self.replicas = Replicas(settings)
        self.launcher = MortalSlots(settings, self._redis)
        slots = Slots(self.launcher, world.store, settings)
        verifier, gate = Verifier(self.replicas, world.store, settings), Gate(self.registry, settings)
        jobs = JobTable(self._redis)
        retention = Retention(self.registry, world.store, jobs, self.replicas, self.record, settings, slots)
        self.publisher = Publisher(self.registry, self.record, self.replicas, gate, verifier, retention, settings, slots)
        self.stopping = asyncio.Event()

    async def start(self) -> None:
        await self.launcher.start()
        self._life = asyncio.create_task(self.publisher.run(self.stopping))

    async def close(self) -> None:
        self.stopping.set()
        await asyncio.gather(self._life, return_exceptions=True)
        await asyncio.gather(self.launcher.close(), self.replicas.close(), self._redis.aclose())

    @property
    def dead(self) -> bool:
        return bool(self._redis.dead)

    async def publish(self, release: Release) -> None:
        await self.publisher.publish(Order(release.release_id, override_reason="test"))


@dataclass
class World:
    """Everything that outlives a trainer."""

    folder: Path
    redis_url: str
    store: WeightsStore
    settings: TrainerSettings
    cluster: TgiDeployments
    releases: list[Release]
    encoder: EncoderServiceStub
    texts: dict[str, str] = field(default_factory=dict)  # by encoder version: what its weights write, greedily

    async def write(self, version: str) -> str:
        """A profile, by the encoder, as the gateway asks for one."""
        options = encoder_pb2.GenerationOptions(max_new_tokens=8, temperature=0.0)
        request = encoder_pb2.GenerateProfileRequest(history=_HISTORY, encoder_version=version, options=options)
        answer: encoder_pb2.GenerateProfileResponse = await self.encoder.GenerateProfile(request, timeout=60.0)
        return answer.text

    @asynccontextmanager
    async def trainer(self, dies_at: str = "") -> AsyncIterator[Trainer]:
        trainer = Trainer(self, dies_at)
        await trainer.start()
        try:
            yield trainer
        finally:
            await trainer.close()


@asynccontextmanager
async def running_world(folder: Path, redis_url: str, api: KubernetesApi, count: int = 3) -> AsyncIterator[World]:
    """The first of `count` releases is live, and its slot is up."""
    store = WeightsStore(str(folder / "weights"), folder / "cache")
    pairs = [(_writer(store, folder, seed), _embedder(store, folder, seed)) for seed in range(count)]
    cluster = TgiDeployments(api)
    await cluster.start()
    first_model = f"{folder}/weights/encoder/{pairs[0][0]}"
    await _first_slot(cluster, first_model)
    encoder_settings = EncoderSettings(encoder_tgi_urls=cluster.urls, weights_uri=str(folder / "weights"))
    engine = TgiEngine(encoder_settings, store)
    await engine.start(pairs[0][0])
    server = grpc.aio.server(interceptors=[CallInterceptor()])
    add_EncoderServiceServicer_to_server(EncoderServicer(engine, store, encoder_settings, pairs[0][0]), server)
    add_DecoderServiceServicer_to_server(Decoder(store), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    settings = TrainerSettings(
        tgi_slots="kubernetes",
        kubernetes_config=str(api.kubeconfig),
        weights_uri=str(folder / "weights"),
        encoder_address=address,
        decoder_address=address,
        drain_seconds=0.8,
        publish_lease_seconds=3.0,
        poll_seconds=0.05,
        golden_tolerance=1e-3,
    )
    channel: Any = open_channel(address)
    async with redis.Redis.from_url(redis_url) as client:
        registry = ReleaseRegistry(client)
        first = await registry.ensure_first(*pairs[0], reason="first")
        releases = [first, *[await registry.create(*pair) for pair in pairs[1:]]]
    try:
        yield World(folder, redis_url, store, settings, cluster, releases, EncoderServiceStub(channel))
    finally:
        await channel.close()
        await server.stop(None)
        await engine.close()
        await cluster.close()


async def _first_slot(cluster: TgiDeployments, model: str) -> None:
    found = cluster.api.get("deployments", "tgi-blue")
    found["spec"]["replicas"] = 1
    found["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "MODEL_ID", "value": model}]
    cluster.api.put("deployments", found)
    for _ in range(3_000):
        if cluster.serves("tgi-blue") == model:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the first slot does not come up")


def _writer(store: WeightsStore, folder: Path, seed: int) -> str:
    source = save_micro_writer(folder / f"writer-{seed}", seed)
    manifest = Manifest(f"job-w{seed}", "encoder", "micro", job_id=f"w{seed}", golden=_golden(source))
    return store.add(source, manifest).version


def _golden(folder: Path) -> Golden:
    """By teacher forcing, here: ln pi of "Good" after "Write: "."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer("Write: ")["input_ids"]
    response = tokenizer("Good", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([[*prompt, *response]])).logits[0].log_softmax(1)
    places = range(len(prompt) - 1, len(prompt) + len(response) - 1)
    log_prob = math.fsum(float(logits[at, token]) for at, token in zip(places, response, strict=True))
    return Golden(tuple(prompt), tuple(response), log_prob)


def _embedder(store: WeightsStore, folder: Path, seed: int) -> str:
    source = folder / f"embedder-{seed}"
    source.mkdir()
    (source / "config.json").write_text(str(seed))
    return store.add(source, Manifest(f"job-e{seed}", "decoder", "micro", job_id=f"e{seed}")).version
