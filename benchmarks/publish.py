"""Publishing under load: how many calls fail, how many answers mix two releases, and what a publish costs those who wait.

    python -m benchmarks.publish --json build/publish/results.json [--quick]

The whole system runs on this machine with the sample world's models. Two tiny jobs make two candidates beside the first
release; then the pointer moves `--moves` times among the three (publish, publish, rollback, and so on) while callers ask without
a pause: Recommend, GetProfile and RefreshProfile of the gateway, and SampleRollouts of the encoder under the versions that are
live. A move begins only when the one before has retired what it replaced, so that later publishes load versions anew.

`failed_calls` counts every error that a caller saw; `mixed_versions` every answer whose encoder version, decoder version and
release are not those of one release. `p95_ms` is over the Recommend calls that touched no move, `p95_ms_during_publish` over
those that did; `by_call` has all four. The figures compare a system with itself; both share two cores with the callers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from langptune.client import LangPTune, Published, PublishStep, Release, TrainingSpec, Versions
from langptune.convert import history_to_proto
from langptune.data.dataset import Dataset
from langptune.errors import FailedPrecondition, LangPTuneError
from langptune.local import LocalSettings, LocalSystem
from langptune.rpc import open_channel
from langptune.v1 import encoder_pb2, encoder_pb2_grpc
from samples.dataset import make_dataset

_WARM_UP = 20  # calls of each kind before the first move
_TIMEOUT = 120.0  # seconds; a call that takes longer counts as failed
_JOB = {"rlso.histories": "2", "rlso.samples": "2", "contrastive.batch_size": "4", "rlso.max_new_tokens": "16"}
_ENVIRONMENT = {
    "LANGPTUNE_DRAIN_SECONDS": "1",
    "LANGPTUNE_ENCODER_MAX_NEW_TOKENS": "24",
    "LANGPTUNE_POLL_SECONDS": "0.2",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes."""

    moves: int = 10
    items: int = 1_200
    users: int = 24
    callers: int = 2  # of each kind


QUICK = Plan(moves=10, items=120, users=8, callers=1)


@dataclass(frozen=True, slots=True)
class Call:
    """One call and its answer."""

    kind: str
    start: float  # seconds, time.perf_counter
    end: float
    error: str = ""
    mixed: bool = False


@dataclass
class Load:
    """Callers that ask again and again until `stop`."""

    releases: Sequence[Release]
    calls: list[Call] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, kind: str, call: Callable[[], Awaitable[list[Versions]]]) -> None:
        """One caller. What it gets back are the versions that the answer says it was made by."""
        while not self.stop.is_set():
            start, error, mixed = time.perf_counter(), "", False
            try:
                mixed = not all(self._is_one_release(versions) for versions in await call())
            except LangPTuneError as failure:
                error = f"{failure.code.name}: {failure.message}"
            self.calls.append(Call(kind, start, time.perf_counter(), error, mixed))
            await asyncio.sleep(0)

    def count(self, kind: str) -> int:
        """Calls of a kind so far."""
        return sum(call.kind == kind for call in self.calls)

    def _is_one_release(self, found: Versions) -> bool:
        return any(
            (found.encoder_version, found.decoder_version, found.release_id)
            == (release.encoder_version, release.decoder_version, release.release_id)
            for release in self.releases
        )


async def measure(plan: Plan, home: Path, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Start the system below `home`, load it, move the pointer, and return what was seen."""
    dataset = await asyncio.to_thread(make_dataset, home / "world", items=plan.items, users=10 * plan.users)
    settings = LocalSettings.load(home=home / "system").with_free_ports().model_copy(update={"redis_url": None})
    system = LocalSystem(settings, environment=_ENVIRONMENT, start_deadline=300.0)
    async with system, LangPTune(system.gateway_address, timeout=_TIMEOUT) as client:
        users = await _prepare(client, dataset, plan)
        say("training two candidates")
        releases = [await client.get_live_release(), *[await _candidate(client, dataset, seed) for seed in (1, 2)]]
        load = Load(releases)
        callers = _callers(load, client, system, dataset, users, plan)
        try:
            await _until(lambda: all(load.count(kind) >= _WARM_UP * plan.callers for kind in KINDS), callers)
            moves = await _move(client, releases, plan.moves, say)
            calm = len(load.calls)
            await _until(lambda: len(load.calls) >= calm + _WARM_UP, callers)
        finally:
            load.stop.set()
            await asyncio.gather(*callers)
        verified = await client.verify_release()
    return _report(plan, load.calls, moves, verified.verified)


KINDS = ("Recommend", "GetProfile", "RefreshProfile", "SampleRollouts")


async def _prepare(client: LangPTune, dataset: Dataset, plan: Plan) -> list[str]:
    """The catalogue, histories, and a profile for some users."""
    await client.import_items(dataset.items.values())
    await client.import_interactions(dataset.interactions)
    users = [session.user_id for session in dataset.sessions("test")][: plan.users]
    for user in users:
        await client.refresh_profile(user, timeout=_TIMEOUT)
    return users


async def _candidate(client: LangPTune, dataset: Dataset, seed: int) -> Release:
    spec = TrainingSpec(
        str(dataset.folder), seed=seed, cl_batches=1, rlso_batches=1, final_cl_batches=0, validation_users=2, overrides=_JOB
    )
    job = await client.create_training_job(spec, job_id=f"candidate-{seed}")
    async for _ in client.watch_training_job(job.job_id):
        pass
    ended = await client.get_training_job(job.job_id)
    if not ended.release_id:
        raise FailedPrecondition(f"job {job.job_id} made no candidate: {ended.error}", reason="NO_CANDIDATE")
    return await client.get_release(ended.release_id)


def _callers(
    load: Load, client: LangPTune, system: LocalSystem, dataset: Dataset, users: list[str], plan: Plan
) -> list[asyncio.Task[None]]:
    """`plan.callers` of each kind; each of them refreshes users of its own, as two at a time would be refused by etag."""
    history = history_to_proto(dataset.sessions("test")[0].history)
    encoder: Any = open_channel(system.settings.address("encoder"), timeout=_TIMEOUT)
    stub = encoder_pb2_grpc.EncoderServiceStub(encoder)

    async def recommend(user: str) -> list[Versions]:
        return [(await client.recommend(user, k=10)).versions]

    async def read(user: str) -> list[Versions]:
        return [(await client.get_profile(user)).versions]

    async def refresh(user: str) -> list[Versions]:
        return [(await client.refresh_profile(user, timeout=_TIMEOUT)).versions]

    async def sample(user: str) -> list[Versions]:
        live = await client.get_live_release()
        request = encoder_pb2.SampleRolloutsRequest(
            histories=[history],
            samples_per_history=2,
            encoder_version=live.encoder_version,
            options=encoder_pb2.GenerationOptions(max_new_tokens=16),
        )
        answers = [answer async for answer in stub.SampleRollouts(request, timeout=_TIMEOUT)]
        return [Versions(answer.encoder_version, live.decoder_version, live.release_id) for answer in answers]

    doing = dict(zip(KINDS, (recommend, read, refresh, sample), strict=True))
    return [
        asyncio.create_task(load.ask(kind, partial(call, users[at])))
        for kind, call in doing.items()
        for at in range(plan.callers)
    ]


async def _move(
    client: LangPTune, releases: Sequence[Release], moves: int, say: Callable[[str], None]
) -> list[tuple[float, float]]:
    """Two publishes and a rollback, and so on; when each began, and when the pointer had moved."""
    spans: list[tuple[float, float]] = []
    for number in range(moves):
        live = (await client.get_live_release()).release_id
        start = time.perf_counter()
        if number % 3 == 2:
            moved = await client.rollback_release(actor="benchmark", reason="back")
        else:
            at = [release.release_id for release in releases].index(live)
            moved = await _publish(client, releases[(at + 1) % len(releases)])
        spans.append((start, time.perf_counter()))
        say(f"{number + 1:2} of {moves}: {live} -> {moved.release.release_id} in {spans[-1][1] - start:.2f} s")
        await _retired(client)
    return spans


async def _retired(client: LangPTune) -> None:
    """Return when nothing is left to be done of the last move."""
    while True:
        if (await client.get_publish()).step in (PublishStep.DONE, PublishStep.FAILED):
            return
        await asyncio.sleep(0.1)


async def _publish(client: LangPTune, release: Release) -> Published:
    why = "a benchmark moves among untrained candidates"
    return await client.publish_release(release.release_id, actor="benchmark", reason="forward", override_reason=why)


async def _until(reached: Callable[[], bool], callers: Sequence[asyncio.Task[None]]) -> None:
    """Wait for `reached`; a caller that has ended by then ended by a defect, and raises it here."""
    while not reached():
        for caller in callers:
            if caller.done():
                caller.result()
        await asyncio.sleep(0.1)


def _report(plan: Plan, calls: Sequence[Call], moves: Sequence[tuple[float, float]], verified: bool) -> dict[str, Any]:
    calm: list[Call] = []
    disturbed: list[Call] = []
    for call in calls:
        touched = any(call.start < end and start < call.end for start, end in moves)
        (disturbed if touched else calm).append(call)
    by_call = {
        kind: {
            "calls": sum(call.kind == kind for call in calls),
            "p95_ms": _p95(call for call in calm if call.kind == kind),
            "p95_ms_during_publish": _p95(call for call in disturbed if call.kind == kind),
        }
        for kind in KINDS
    }
    return {
        "plan": asdict(plan),
        "moves": len(moves),
        "move_seconds": [round(end - start, 3) for start, end in moves],
        "calls": len(calls),
        "failed_calls": sum(bool(call.error) for call in calls),
        "errors": sorted({f"{call.kind} {call.error}" for call in calls if call.error})[:20],
        "mixed_versions": sum(call.mixed for call in calls),
        "verified_at_the_end": verified,
        "p95_ms": by_call["Recommend"]["p95_ms"],
        "p95_ms_during_publish": by_call["Recommend"]["p95_ms_during_publish"],
        "by_call": by_call,
    }


def _p95(calls: Any) -> float | None:
    """Milliseconds; None for no call."""
    times = [1_000 * (call.end - call.start) for call in calls if not call.error]
    return round(float(np.percentile(times, 95)), 1) if times else None


def main() -> None:
    """Parse the command line, measure, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("build/publish/results.json"), help="where the results go")
    parser.add_argument("--quick", action="store_true", help="a small world and one caller of each kind")
    parser.add_argument("--moves", type=int, default=10, help="publishes and rollbacks")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else Plan()
    plan = Plan(arguments.moves, sizes.items, sizes.users, sizes.callers)
    with tempfile.TemporaryDirectory(prefix="langptune-publish-") as home:
        result = asyncio.run(measure(plan, Path(home), lambda line: _write(sys.stderr, line)))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    _write(sys.stdout, json.dumps({key: value for key, value in result.items() if key != "by_call"}, indent=2))


def _write(stream: Any, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
