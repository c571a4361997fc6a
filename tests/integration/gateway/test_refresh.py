"""Profiles written off the request path, by real gateways on a Redis of their own: what is queued gets done, or is shown."""

import asyncio
import json
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from langptune.client import LangPTune, NewInteraction, ProfileOrigin, RefreshQueueDepth
from langptune.errors import NotFound
from langptune.local.process import free_port
from langptune.text import sentences
from langptune.weights import ReleaseRegistry
from services.gateway.refresh.queue import RefreshQueue
from tests.integration.gateway.world import World
from tests.support.processes import RunningService, running_service, start_service
from tests.support.redis import running_redis

SETTINGS = {"LANGPTUNE_REFRESH_AFTER": "3", "LANGPTUNE_REFRESH_LEASE": "1", "LANGPTUNE_REFRESH_BACKOFF": "0.1"}
PATIENCE = 60.0  # seconds; on an idle machine each wait is below three


@pytest.fixture(scope="module")
def env(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings of gateways that share one queue, with the world's encoder, decoder and release."""
    with running_redis(tmp_path_factory.mktemp("refresh")) as url:

        async def prepare() -> None:
            async with Redis.from_url(url) as client, LangPTune(world.gateway.address) as lp:
                await ReleaseRegistry(client).ensure_first(
                    world.release.encoder_version, world.release.decoder_version, reason="test"
                )
                await lp.import_items(world.dataset.items.values())

        asyncio.run(prepare())
        yield {**world.env, **SETTINGS, "LANGPTUNE_REDIS_URL": url}


@asynccontextmanager
async def _client(service: RunningService) -> AsyncIterator[LangPTune]:
    async with LangPTune(service.address, timeout=20.0) as lp:
        yield lp


async def _until(holds: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    end = time.monotonic() + PATIENCE
    while not await holds():
        assert time.monotonic() < end, "it never came about"
        await asyncio.sleep(0.05)


async def _has_profile(lp: LangPTune, user_id: str) -> bool:
    try:
        return bool(await lp.get_profile(user_id))
    except NotFound:
        return False


async def _running(lp: LangPTune) -> bool:
    return (await lp.get_refresh_queue()).running == 1


async def _record(lp: LangPTune, world: World, user_id: str, first: int = 0) -> bool:
    """Three new interactions; whether a refresh is pending by then."""
    items = list(world.dataset.items)[first : first + 3]
    entries = [NewInteraction(item_id, 5.0, "Loved it.", 1_000 * (first + at)) for at, item_id in enumerate(items, start=1)]
    return (await lp.record_interactions(user_id, entries)).refresh_pending


async def test_a_grown_history_is_written_about_without_being_asked(world: World, env: dict[str, str], tmp_path: Path) -> None:
    with running_service("gateway", tmp_path, env) as gateway:
        async with _client(gateway) as lp:
            assert await _record(lp, world, "grower")
            await _until(lambda: _has_profile(lp, "grower"))
            first = await lp.get_profile_page("grower")
            assert (first.profile.revision, first.profile.origin, first.profile.interactions) == (1, ProfileOrigin.GENERATED, 3)
            assert (first.new_interactions, first.refresh_pending) == (0, False)
            edited = await lp.update_profile("grower", "My own words.", etag=first.profile.etag)
            await _record(lp, world, "grower", first=3)

            async def suggested() -> bool:
                return (await lp.get_profile_page("grower")).suggestion is not None

            await _until(suggested)
            page = await lp.get_profile_page("grower")
            assert page.profile == edited, "what the user wrote stands; the refresh is a suggestion"
            assert page.suggestion is not None
            assert page.suggestion.interactions == 6
            assert await lp.get_refresh_queue() == RefreshQueueDepth(0, 0, 0, 0, 0.0)


async def test_a_gateway_that_stops_hands_its_refresh_back(world: World, env: dict[str, str], tmp_path: Path) -> None:
    """Stopped in the middle of the writing: the job waits for the next gateway, and the attempt has not counted."""
    with running_service("gateway", tmp_path, env | {"LANGPTUNE_SHUTDOWN_GRACE": "1"}) as gateway:
        async with _client(gateway) as lp:
            world.encoder.process.send_signal(signal.SIGSTOP)
            try:
                await _record(lp, world, "patient")
                await _until(lambda: _running(lp))
                assert await asyncio.to_thread(gateway.terminate) == 0
            finally:
                world.encoder.process.send_signal(signal.SIGCONT)
    async with Redis.from_url(env["LANGPTUNE_REDIS_URL"]) as client:
        queue = RefreshQueue(client, 3)
        depth = await queue.depth()
        assert (depth.queued, depth.running) == (1, 0)
        job = await queue.take("test", 60.0, 0.01)
        assert job is not None
        assert (job.user_id, job.attempt) == ("patient", 1)
        await queue.settle("patient", 3)


async def test_a_refresh_outlives_the_kill_of_the_gateway_that_writes(world: World, env: dict[str, str], tmp_path: Path) -> None:
    """The encoder is stopped in the middle of the writing, the gateway is killed, another one comes up: one revision, whole."""
    gateway = start_service("gateway", tmp_path, env)
    world.encoder.process.send_signal(signal.SIGSTOP)
    try:
        async with _client(gateway) as lp:
            assert await _record(lp, world, "survivor")
            await _until(lambda: _running(lp))
        gateway.kill()
    finally:
        world.encoder.process.send_signal(signal.SIGCONT)
        if gateway.process.poll() is None:
            gateway.kill()
    with running_service("gateway", tmp_path, env | {"LANGPTUNE_REFRESH_SEGMENT": "3"}) as again:
        async with _client(again) as lp:
            await _until(lambda: _has_profile(lp, "survivor"))
            (written,) = [revision async for revision in lp.list_profile_revisions("survivor")]
            assert written.interactions == 3
            assert await lp.get_refresh_queue() == RefreshQueueDepth(0, 0, 0, 0, 0.0)
            await _record(lp, world, "survivor", first=3)

            async def grown() -> bool:
                return (await lp.get_profile("survivor")).revision == 2

            await _until(grown)
            page = await lp.get_profile_page("survivor")
            assert (page.profile.interactions, page.new_interactions) == (6, 0)
            assert set(sentences(written.text)) <= set(sentences(page.profile.text)), "what is new joins what was written before"


async def test_what_fails_for_good_is_shown_to_operators_who_replay_it(world: World, env: dict[str, str], tmp_path: Path) -> None:
    nowhere = {"LANGPTUNE_ENCODER_ADDRESS": f"127.0.0.1:{free_port()}", "LANGPTUNE_REFRESH_ATTEMPTS": "2"}
    with running_service("gateway", tmp_path, env | nowhere) as gateway:
        async with _client(gateway) as lp:
            await _record(lp, world, "luckless")

            async def dead() -> bool:
                return (await lp.get_refresh_queue()).dead == 1

            await _until(dead)
            listed = json.loads(await _cli(gateway, "list"))
            assert (listed["dead"], listed["queued"]) == (1, 0)
            (refresh,) = listed["dead_refreshes"]
            assert (refresh["user_id"], refresh["code"], refresh["attempts"]) == ("luckless", "UNAVAILABLE", 2)
    with running_service("gateway", tmp_path, env) as gateway:
        async with _client(gateway) as lp:
            assert not await _has_profile(lp, "luckless")
            assert json.loads(await _cli(gateway, "replay", "--all")) == {"replayed": 1}
            await _until(lambda: _has_profile(lp, "luckless"))
            assert [dead async for dead in lp.list_dead_refreshes()] == []


async def _cli(gateway: RunningService, *arguments: str) -> str:
    command = ("-m", "langptune.cli", "refresh-queue", *arguments, "--gateway", gateway.address, "--json")
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE, stderr=PIPE)
    told, problems = await process.communicate()
    assert process.returncode == 0, problems.decode()
    return told.decode()
