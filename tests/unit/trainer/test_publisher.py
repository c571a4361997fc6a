"""The publish protocol, cut off at every single point: each command to Redis and each call to a replica, before and after it.

The encoder and decoder replicas are stand-ins with nothing but a set of loaded versions; Redis, record, registry, gate, verifier,
retention and weights store are the real ones. A cut is a process that dies: from there on it reaches nothing any more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis

from langptune.errors import Aborted, FailedPrecondition, NotFound, Unavailable
from langptune.v1 import trainer_pb2
from langptune.weights import KINDS, Golden, Kind, Manifest, Release, ReleaseRegistry, WeightsStore, Why
from langptune.weights.releases import LeaseLost
from services.trainer.jobs.table import JobTable
from services.trainer.publishing.gate import Gate, Verdict
from services.trainer.publishing.publication import PublicationRecord, Step
from services.trainer.publishing.publisher import Order, Publisher
from services.trainer.publishing.replicas import Found
from services.trainer.publishing.retention import Retention
from services.trainer.publishing.slots import Slot, Slots
from services.trainer.publishing.verification import Verifier
from services.trainer.settings import TrainerSettings

LEASE = "langptune:publish:lease"


class Died(BaseException):
    """The process is gone."""


@dataclass
class Life:
    """Counts what a process does to the world outside, and ends it at a chosen point: before or after the deed."""

    last: int = 1 << 30  # number of the last deed
    done_before_death: bool = False
    deeds: int = 0

    @asynccontextmanager
    async def deed(self) -> AsyncIterator[None]:
        self.deeds += 1
        if self.deeds > self.last or (self.deeds == self.last and not self.done_before_death):
            raise Died
        yield
        if self.deeds >= self.last:
            raise Died


class MortalRedis(redis.Redis):
    """A client whose process may die at any command."""

    life = Life()

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        async with self.life.deed():
            return await super().execute_command(*arguments, **options)


@dataclass
class StandIn:
    """A replica: what it has loaded, and what is wrong with it."""

    kind: Kind
    address: str
    store: WeightsStore
    loaded: set[str] = field(default_factory=set)
    slots: dict[str, str] | None = None  # of the encoders' engine, if it needs them: what each serves
    problem: str = ""  # "away", "other files", "other weights", "half an index"

    def is_served(self, version: str) -> bool:
        """Whether what runs the model has this version's weights."""
        return self.slots is None or any(model.endswith(version) for model in self.slots.values())


class StandInSlots:
    """The two slots as one process sees them."""

    def __init__(self, slots: dict[str, str], life: Life) -> None:
        self._slots = slots
        self._life = life

    async def start(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    async def slots(self) -> list[Slot]:
        async with self._life.deed():
            return [Slot(name, model) for name, model in self._slots.items()]

    async def bring_up(self, name: str, model: str) -> None:
        async with self._life.deed():
            self._slots[name] = model

    async def stop(self, name: str) -> None:
        async with self._life.deed():
            self._slots[name] = ""


class StandIns:
    """Replicas as one process sees them."""

    def __init__(self, replicas: list[StandIn], life: Life) -> None:
        self._replicas = replicas
        self._life = life

    async def of(self, kind: Kind) -> list[Seen]:
        return [Seen(replica, self._life) for replica in self._replicas if replica.kind == kind]


class Seen:
    def __init__(self, replica: StandIn, life: Life) -> None:
        self._replica = replica
        self._life = life
        self.kind, self.address = replica.kind, replica.address

    async def load(self, version: str) -> None:
        async with self._life.deed():
            if self._replica.problem == "away":
                raise Unavailable("it is away")
            self._replica.store.manifest(self.kind, version)
            if not self._replica.is_served(version):
                raise FailedPrecondition("no slot serves it", reason="VERSION_NOT_SERVED")
            self._replica.loaded.add(version)

    async def unload(self, version: str) -> None:
        async with self._life.deed():
            self._replica.loaded.discard(version)

    async def versions(self) -> set[str]:
        async with self._life.deed():
            return set(self._replica.loaded)

    async def verify(self, version: str, golden: Golden) -> Found:
        async with self._life.deed():
            if version not in self._replica.loaded:
                raise NotFound("version", version)
            wrong = self._replica.problem
            digest = "other" if wrong == "other files" else self._replica.store.deployed_digest(self.kind, version)
            if self.kind == "encoder":
                return Found(digest, golden_log_prob=-9.0 if wrong == "other weights" else -5.0)
            return Found(digest, items=5 if wrong == "half an index" else 10, catalogue_items=10, overlap=1.0)


@dataclass
class Outside:
    """All that outlives a process of the trainer."""

    url: str
    store: WeightsStore
    replicas: list[StandIn]
    settings: TrainerSettings
    slots: dict[str, str] | None = None

    def process(self, life: Life | None = None) -> Process:
        return Process(self, life or Life())

    def holds(self, release: Release) -> bool:
        """Whether every replica can answer under this release."""
        versions = [(replica, release.version(replica.kind)) for replica in self.replicas]
        return all(version in replica.loaded and replica.is_served(version) for replica, version in versions)

    def put_in_slots(self) -> None:
        """From now on the encoders' engine loads weights only when it starts."""
        self.slots = {"blue": "", "green": ""}
        for replica in self.replicas:
            replica.slots = self.slots if replica.kind == "encoder" else None


class Process:
    """A trainer's publisher with its own connection."""

    def __init__(self, outside: Outside, life: Life) -> None:
        self.client: Any = MortalRedis.from_url(outside.url, socket_timeout=5.0)
        self.client.life = life
        self.life = life
        self.registry = ReleaseRegistry(self.client)
        replicas: Any = StandIns(outside.replicas, life)
        settings = outside.settings
        self.record = PublicationRecord(self.client, settings.publish_lease_seconds)
        verifier = Verifier(replicas, outside.store, settings)
        slots = None
        if outside.slots is not None:
            slots = Slots(StandInSlots(outside.slots, life), outside.store, settings)
        jobs = JobTable(self.client)
        retention = Retention(self.registry, outside.store, jobs, replicas, self.record, settings, slots)
        gate = Gate(self.registry, settings)
        self.publisher = Publisher(self.registry, self.record, replicas, gate, verifier, retention, settings, slots)

    async def publish(self, release: Release, **values: str) -> Any:
        return await self.publisher.publish(Order(release.release_id, override_reason="test", **values))

    async def finish(self) -> None:
        """What a trainer that lives on does by and by."""
        for _ in range(3):
            await self.publisher.tend()


@pytest.fixture
def outside(redis_url: str, tmp_path: Path) -> Outside:
    store = WeightsStore(str(tmp_path / "weights"), tmp_path / "cache")
    replicas = [StandIn(kind, f"{kind}-{at}", store) for kind in KINDS for at in range(2)]
    return Outside(redis_url, store, replicas, TrainerSettings(drain_seconds=0, publish_lease_seconds=30))


def _version(outside: Outside, kind: Kind, name: str, folder: Path) -> str:
    source = folder / f"{kind}-{name}"
    source.mkdir()
    (source / "config.json").write_text(name)
    golden = Golden((1,), (2, 3), -5.0) if kind == "encoder" else None
    return outside.store.add(source, Manifest(f"job-{name}", kind, "base", job_id=name, golden=golden)).version


async def _releases(outside: Outside, folder: Path, count: int = 3) -> list[Release]:
    """The first is live; the second has replaced it, and the third is a candidate."""
    living = outside.process()
    pairs = [[_version(outside, kind, f"{kind[0]}{at}", folder) for kind in KINDS] for at in range(count)]
    first = await living.registry.ensure_first(*pairs[0], reason="first")
    for replica in outside.replicas:
        replica.loaded.add(first.version(replica.kind))
    if outside.slots is not None:
        outside.slots["blue"] = f"/another/mount/{first.encoder_version}"  # as the manifests have it
    releases = [first, *[await living.registry.create(*pair) for pair in pairs[1:]]]
    await living.publish(releases[1])
    await living.finish()
    await living.client.aclose()
    return releases


async def test_publish_loads_verifies_flips_and_retires_what_is_older(outside: Outside, tmp_path: Path) -> None:
    first, second, third = await _releases(outside, tmp_path)
    trainer = outside.process()
    publication = await trainer.publish(third, actor="ann", reason="better")
    assert (publication.step, publication.previous, publication.verdict) == (Step.DRAIN, "r2", Verdict.UNKNOWN)
    assert (await trainer.registry.live()).release_id == "r3"
    await trainer.finish()
    assert (await trainer.publisher.current()).step is Step.DONE
    assert outside.holds(third)
    assert outside.holds(second)
    assert not any(first.version(replica.kind) in replica.loaded for replica in outside.replicas)
    move = (await trainer.registry.history(1))[0]
    assert (move.release_id, move.previous, move.why.actor, move.why.reason) == ("r3", "r2", "ann", "better")
    assert (move.why.override_reason, move.why.publish_id) == ("test", publication.publish_id)
    again = await trainer.publish(third)
    assert (again.step, again.previous) == (Step.DONE, "r3")
    assert len(await trainer.registry.history(10)) == 3
    await trainer.client.aclose()


@pytest.mark.parametrize(
    ("done_before_death", "recovery", "in_slots"), [(False, "restart", False), (True, "retry", False), (True, "restart", True)]
)
async def test_a_process_that_dies_anywhere_leaves_one_release_live_and_another_finishes(
    outside: Outside, tmp_path: Path, redis_url: str, done_before_death: bool, recovery: str, in_slots: bool
) -> None:
    if in_slots:
        outside.put_in_slots()
    _, second, third = await _releases(outside, tmp_path)
    before = {replica.address: set(replica.loaded) for replica in outside.replicas}
    slots_before = dict(outside.slots or {})
    async with redis.Redis.from_url(redis_url) as watcher:
        stored = {key: await watcher.dump(key) for key in await watcher.keys()}
        registry = ReleaseRegistry(watcher)
        last, seen = 0, set()
        while True:
            last += 2 if in_slots else 1  # with slots every other point, for the sake of time
            await _restore(watcher, stored)
            for replica in outside.replicas:
                replica.loaded = set(before[replica.address])
            if outside.slots is not None:
                outside.slots.update(slots_before)
            survived, step = await _live_until(outside, third, last, done_before_death)
            seen.add(step)
            live = await registry.live()
            assert live.release_id == ("r3" if step in (Step.DRAIN, Step.RETIRE, Step.DONE) else "r2")
            assert outside.holds(live)
            if survived:
                break
            await watcher.delete(LEASE)  # its time runs out
            await _recover(outside, third, recovery)
            assert (await registry.live()).release_id == "r3"
            assert outside.holds(third)
            assert outside.holds(second) != in_slots  # the release before stays in memory; a slot is stopped
            assert [move.release_id for move in await registry.history(10)] == ["r3", "r2", "r1"]
    assert last > 30  # there were as many points to die at
    assert {Step.LOAD, Step.VERIFY, Step.FLIP, Step.DRAIN, Step.RETIRE, Step.DONE} <= seen


async def _restore(client: redis.Redis, stored: dict[bytes, bytes]) -> None:
    await client.flushdb()
    for key, value in stored.items():
        await client.restore(key, 0, value)


async def _live_until(outside: Outside, release: Release, last: int, done_before_death: bool) -> tuple[bool, Step]:
    """Publish and tend in a process with `last` deeds to live; whether it came to the end, and the record's step then."""
    trainer = outside.process(Life(last, done_before_death))
    try:
        await trainer.publish(release)
        await trainer.finish()
        survived = True
    except Died:
        survived = False
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)  # what it still had under way dies, too
    await trainer.client.aclose()
    watcher = outside.process()
    publication = await watcher.record.read()
    await watcher.client.aclose()
    return survived, publication.step if publication and publication.release_id == release.release_id else Step.LOAD


async def _recover(outside: Outside, release: Release, how: str) -> None:
    trainer = outside.process()
    if how == "retry" or await trainer.record.read() is None or (await trainer.publisher.current()).release_id != "r3":
        await trainer.publish(release)  # a process that died before it wrote anything down has promised nothing
    await trainer.finish()
    assert (await trainer.publisher.current()).step is Step.DONE
    await trainer.client.aclose()


@pytest.mark.parametrize(
    ("problem", "at"),
    [("away", 0), ("away", 3), ("other files", 1), ("other files", 2), ("other weights", 1), ("half an index", 3)],
)
async def test_one_bad_replica_is_enough_to_keep_the_release_before(
    outside: Outside, tmp_path: Path, problem: str, at: int
) -> None:
    _, _, third = await _releases(outside, tmp_path)
    outside.replicas[at].problem = problem
    trainer = outside.process()
    with pytest.raises((FailedPrecondition, Unavailable)) as failed:
        await trainer.publish(third)
    assert isinstance(failed.value, Unavailable) == (problem == "away")
    assert (await trainer.registry.live()).release_id == "r2"
    publication = await trainer.publisher.current()
    assert (publication.step, publication.error) == (Step.FAILED, failed.value.message)
    if problem != "away":
        assert outside.replicas[at].address in failed.value.message
    outside.replicas[at].problem = ""
    await trainer.publish(third)
    assert (await trainer.registry.live()).release_id == "r3"
    await trainer.client.aclose()


async def test_two_trainers_publish_once(outside: Outside, tmp_path: Path) -> None:
    _, _, third = await _releases(outside, tmp_path)
    one, two = outside.process(), outside.process()
    found = await asyncio.gather(one.publish(third), two.publish(third), one.publish(third))
    assert {publication.release_id for publication in found} == {"r3"}
    assert len(await one.registry.history(10)) == 3
    for trainer in (one, two):
        await trainer.client.aclose()


async def test_two_trainers_tell_of_two_releases_that_one_is_being_published(outside: Outside, tmp_path: Path) -> None:
    *_, fourth = await _releases(outside, tmp_path, 4)
    one, two = outside.process(), outside.process()
    async with one.record.lease() as lease:
        assert lease is not None
        publication = (await one.publisher.current()).at(Step.VERIFY)
        await lease.write(publication.__class__(**{**_fields(publication), "release_id": "r3", "previous": "r2"}))
        with pytest.raises(FailedPrecondition, match="r3 is being published"):
            await two.publish(fourth)
        with pytest.raises(FailedPrecondition, match="r3 is being published"):
            await two.publisher.prune(2)
    await two.publish(fourth)  # whoever was at r3 is gone, and an operator wants r4 now
    assert (await two.registry.live()).release_id == "r4"
    for trainer in (one, two):
        await trainer.client.aclose()


def _fields(publication: Any) -> dict[str, Any]:
    return {name: getattr(publication, name) for name in publication.__dataclass_fields__}


async def test_the_gate_the_expected_release_and_retired_weights_are_asked_first(outside: Outside, tmp_path: Path) -> None:
    _, _, third = await _releases(outside, tmp_path)
    trainer = outside.process()
    with pytest.raises(FailedPrecondition, match="the gate does not let r3 through") as refused:
        await trainer.publisher.publish(Order("r3"))
    assert (refused.value.reason, refused.value.metadata["verdict"]) == ("GATE_CLOSED", "unknown")
    with pytest.raises(Aborted) as aborted:
        await trainer.publish(third, expected="r1")
    assert aborted.value.etag == "r2"
    with pytest.raises(NotFound):
        await trainer.publisher.publish(Order("r99"))
    await trainer.publisher.publish(Order("r1"))  # has been live: no gate
    await trainer.registry.retire("r3")
    with pytest.raises(FailedPrecondition, match="have been removed"):
        await trainer.publish(third)
    await trainer.client.aclose()


async def test_prune_keeps_what_is_live_what_was_before_and_what_jobs_name(outside: Outside, tmp_path: Path) -> None:
    releases = await _releases(outside, tmp_path, 7)  # r2 is live, r1 was before
    trainer = outside.process()
    table = JobTable(trainer.client)
    spec = trainer_pb2.TrainingSpec(dataset_uri="data")
    await table.create("runs", spec, resolved={}, parent_release_id="r3", steps_total=1)
    own = _version(outside, "encoder", "runs", tmp_path)
    gone = _version(outside, "decoder", "ended", tmp_path)
    base = outside.store.ensure_base("encoder", "a/hub-id").version
    pruned = await trainer.publisher.prune(2)
    assert pruned.release_ids == ["r5", "r4"]
    kept = [releases[at] for at in (0, 1, 2, 5, 6)]
    for kind in KINDS:
        left = {release.version(kind) for release in kept} | ({own, base} if kind == "encoder" else set())
        assert set(outside.store.versions(kind)) == left
    assert gone in pruned.versions["decoder"]
    assert (await trainer.registry.get("r4")).retired
    assert (await trainer.publisher.prune(2)).release_ids == []
    await trainer.client.aclose()


async def test_a_pointer_moves_only_under_the_lease(outside: Outside, tmp_path: Path) -> None:
    await _releases(outside, tmp_path)
    trainer = outside.process()
    publication = await trainer.publisher.current()
    async with trainer.record.lease() as lease:
        assert lease is not None
        fence = lease.fence(publication)
        await trainer.client.set(LEASE, "somebody else")
        with pytest.raises(LeaseLost):
            await trainer.registry.set_live("r3", expected="r2", why=Why(), fence=fence)
        with pytest.raises(LeaseLost):
            await lease.write(publication)
    assert (await trainer.registry.live()).release_id == "r2"
    assert await trainer.client.get(LEASE) == b"somebody else"
    await trainer.client.aclose()


class Deaf(redis.Redis):
    """A client whose running command takes no notice of being cancelled."""

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        running = asyncio.ensure_future(super().execute_command(*arguments, **options))
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)
        return running.result()


async def test_a_lease_ends_with_its_block_whatever_its_renewal_is_at(redis_url: str) -> None:
    async with Deaf.from_url(redis_url) as client:
        record = PublicationRecord(client, 0.3)
        for number in range(4):
            async with asyncio.timeout(10):
                async with record.lease() as lease:
                    assert lease is not None
                    await asyncio.sleep(0.3 + 0.02 * number)  # in the middle of a renewal, or between two
                    assert await client.get(LEASE) is not None  # past its time, and kept
            assert await client.get(LEASE) is None


async def test_a_version_that_is_live_keeps_its_slot_and_the_next_one_takes_the_other(outside: Outside, tmp_path: Path) -> None:
    outside.put_in_slots()
    _, second, third = await _releases(outside, tmp_path)
    assert outside.slots is not None
    assert [model.rpartition("/")[2] for model in outside.slots.values()] == ["", second.encoder_version]
    trainer = outside.process()
    await trainer.publish(third)
    assert [model.rpartition("/")[2] for model in outside.slots.values()] == [third.encoder_version, second.encoder_version]
    await trainer.finish()
    assert [model.rpartition("/")[2] for model in outside.slots.values()] == [third.encoder_version, ""]
    outside.slots["blue"] = ""  # the machine was started anew
    await trainer.client.aclose()
    later = outside.process()
    await later.finish()
    assert outside.slots["blue"].endswith(third.encoder_version) or outside.slots["green"].endswith(third.encoder_version)
    await later.client.aclose()


async def test_a_publish_that_fails_gives_its_slot_back(outside: Outside, tmp_path: Path) -> None:
    outside.put_in_slots()
    _, second, third = await _releases(outside, tmp_path)
    assert outside.slots is not None
    outside.replicas[0].problem = "other weights"
    trainer = outside.process()
    with pytest.raises(FailedPrecondition, match="golden log-prob"):
        await trainer.publish(third)
    assert all(outside.slots.values())
    await trainer.finish()
    assert [model.rpartition("/")[2] for model in outside.slots.values()] == ["", second.encoder_version]
    await trainer.client.aclose()
