"""What is left when a part is gone: answers where there can be one, typed errors soon where not, no acknowledged write lost."""

import asyncio
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from langptune.client import LangPTune, NewInteraction, RankingBasis
from langptune.errors import Aborted, DeadlineExceeded, FailedPrecondition, LangPTuneError, NotFound, Unavailable
from langptune.local.process import free_port
from tests.integration.gateway.world import World
from tests.support.processes import RunningService, running_service, start_service
from tests.support.redis import running_redis, start_redis


@pytest.fixture(scope="module", autouse=True)
def _imported(world: World) -> None:
    async def fill() -> None:
        async with LangPTune(world.gateway.address) as lp:
            await lp.import_items(world.dataset.items.values())

    asyncio.run(fill())


@asynccontextmanager
async def _client(service: RunningService) -> AsyncIterator[LangPTune]:
    async with LangPTune(service.address, timeout=20.0) as lp:
        yield lp


async def _within(seconds: float, kind: type[LangPTuneError], call: Callable[[], Any]) -> LangPTuneError:
    started = time.monotonic()
    with pytest.raises(kind) as caught:
        await call()
    assert time.monotonic() - started < seconds
    return caught.value


def _scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as told:
        return str(told.read().decode())


async def test_without_the_encoder_only_refresh_fails_and_soon(world: World) -> None:
    first = next(iter(world.dataset.items))
    gone = {"LANGPTUNE_ENCODER_ADDRESS": f"127.0.0.1:{free_port()}", "LANGPTUNE_BREAKER_FAILURES": "2"}
    metrics = free_port()
    with world.another_gateway(**gone, LANGPTUNE_BREAKER_REST="600", LANGPTUNE_GATEWAY_METRICS_PORT=str(metrics)) as gateway:
        async with _client(gateway) as lp:
            await lp.record_interactions("u-enc", [NewInteraction(first, 5.0)])
            assert (await lp.recommend("u-enc")).basis == RankingBasis.HISTORY
            errors = [await _within(5.0, Unavailable, lambda: lp.refresh_profile("u-enc")) for _ in range(3)]
            assert errors[-1].reason == "CIRCUIT_OPEN"
            assert '"state": "open"' in gateway.log()
            assert 'langptune_gateway_circuit{peer="encoder"} 2.0' in await asyncio.to_thread(_scrape, metrics)
            await lp.update_profile("u-enc", "Likes trains.")
            assert (await lp.recommend("u-enc")).basis == RankingBasis.PROFILE


async def test_an_encoder_that_hangs_holds_no_ranking_up(world: World) -> None:
    """It takes connections and never answers: by profile, by history and by popularity there is a ranking, and it says which."""
    first = next(iter(world.dataset.items))
    async with _client(world.gateway) as lp:
        world.encoder.process.send_signal(signal.SIGSTOP)
        try:
            await lp.record_interactions("u-hang", [NewInteraction(first, 5.0)])
            refreshing = asyncio.create_task(lp.refresh_profile("u-hang", timeout=60.0))
            await asyncio.sleep(0.1)
            by_history = await lp.recommend("u-hang")
            assert (by_history.basis, by_history.basis_reason) == (RankingBasis.HISTORY, "u-hang has no profile yet")
            nobody = await lp.recommend("u-hang-nobody")
            assert nobody.basis == RankingBasis.POPULARITY
            assert nobody.basis_reason == "u-hang-nobody has neither a profile nor a history yet"
            await lp.update_profile("u-hang-typed", "Likes trains.")
            typed = await lp.recommend("u-hang-typed", explain=True)
            assert (typed.basis, typed.basis_reason) == (RankingBasis.PROFILE, "")
            assert not refreshing.done()
        finally:
            world.encoder.process.send_signal(signal.SIGCONT)
        assert (await refreshing).interactions == 1


async def test_without_the_decoder_profiles_can_still_be_read_and_edited(world: World) -> None:
    first = next(iter(world.dataset.items))
    with world.another_gateway(LANGPTUNE_DECODER_ADDRESS=f"127.0.0.1:{free_port()}") as gateway:
        async with _client(gateway) as lp:
            edited = await lp.update_profile("u-dec", "Likes trains.")
            assert await lp.get_profile("u-dec") == edited
            await _within(5.0, Unavailable, lambda: lp.recommend("u-dec"))
            await _within(5.0, Unavailable, lambda: lp.record_interactions("u-dec", [NewInteraction(first, 5.0)]))
    async with _client(world.gateway) as lp:
        assert [entry async for entry in lp.list_interactions("u-dec")] == []


async def test_an_edit_while_the_encoder_writes_is_kept(world: World) -> None:
    """The encoder is stopped in the middle of a request, the user edits, the encoder goes on: ABORTED, and the edit stands."""
    first = next(iter(world.dataset.items))
    async with _client(world.gateway) as lp:
        await lp.record_interactions("u-mid", [NewInteraction(first, 5.0)])
        world.encoder.process.send_signal(signal.SIGSTOP)
        try:
            refreshing = asyncio.create_task(lp.refresh_profile("u-mid"))
            await asyncio.sleep(0.3)
            edited = await lp.update_profile("u-mid", "My own words.")
        finally:
            world.encoder.process.send_signal(signal.SIGCONT)
        with pytest.raises(Aborted) as caught:
            await refreshing
        assert caught.value.etag == edited.etag
        assert await lp.get_profile("u-mid") == edited


async def test_before_the_first_release(world: World, tmp_path: Path) -> None:
    with running_redis(tmp_path) as url, world.another_gateway(LANGPTUNE_REDIS_URL=url) as gateway:
        async with _client(gateway) as lp:
            await lp.update_profile("u1", "Likes trains.")
            found = await lp.recommend("u1")
            assert (found.basis, found.basis_reason) == (RankingBasis.POPULARITY, "no release is live yet")
            assert len(found.items) == 10  # nobody has chosen anything: the first of the catalogue
            error = await _within(5.0, FailedPrecondition, lambda: lp.refresh_profile("u1", overwrite_edited=True))
            assert error.reason == "NO_LIVE_RELEASE"


@contextmanager
def _ending(*services: RunningService) -> Iterator[None]:
    try:
        yield
    finally:
        for service in services:
            if service.process.poll() is None:
                service.kill()


async def test_what_was_acknowledged_survives_the_kill_of_gateway_and_redis(world: World, tmp_path: Path) -> None:
    port = free_port()
    first = next(iter(world.dataset.items))
    process, url = start_redis(tmp_path / "redis", port)
    gateway = start_service("gateway", tmp_path, world.env | {"LANGPTUNE_REDIS_URL": url})
    with _ending(gateway):
        assert "may lose" not in gateway.log()
        async with _client(gateway) as lp:
            etag = ""
            for number in range(20):
                edited = await lp.update_profile("u1", f"Edit {number}.", etag=etag)
                etag = edited.etag
            await lp.record_interactions("u1", [NewInteraction(first, 5.0, "Loved it.", 1_700_000_000_000)])
            process.kill()
            gateway.kill()
            process.wait(5)
    with (
        running_redis(tmp_path / "redis", port),
        running_service("gateway", tmp_path, world.env | {"LANGPTUNE_REDIS_URL": url}) as again,
    ):
        async with _client(again) as lp:
            assert await lp.get_profile("u1") == edited
            assert len([revision async for revision in lp.list_profile_revisions("u1")]) == 20
            assert [entry.review async for entry in lp.list_interactions("u1")] == ["Loved it."]


async def test_redis_gone_is_unavailable_and_back_is_back(world: World, tmp_path: Path) -> None:
    port = free_port()
    process, url = start_redis(tmp_path / "redis", port)
    settings = {"LANGPTUNE_REDIS_URL": url, "LANGPTUNE_REDIS_TIMEOUT": "0.5"}
    with running_service("gateway", tmp_path, world.env | settings) as gateway:
        async with _client(gateway) as lp:
            edited = await lp.update_profile("u1", "Likes trains.")
            process.send_signal(signal.SIGSTOP)  # it takes connections and never answers
            error = await _within(10.0, Unavailable, lambda: lp.get_profile("u1"))
            assert error.reason == "STORE_UNAVAILABLE"
            await _within(2.0, DeadlineExceeded, lambda: lp.get_profile("u1", timeout=0.4))
            process.send_signal(signal.SIGCONT)
            assert await lp.get_profile("u1") == edited
            process.kill()
            process.wait(5)
            for call in (lambda: lp.get_profile("u1"), lambda: lp.recommend("u1"), lambda: lp.update_profile("u1", "x")):
                error = await _within(10.0, Unavailable, call)
                assert error.reason == "STORE_UNAVAILABLE"
            with running_redis(tmp_path / "redis", port):
                assert await lp.get_profile("u1") == edited


async def test_a_gateway_without_redis_starts_and_says_so(world: World) -> None:
    with world.another_gateway(LANGPTUNE_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0") as gateway:
        assert "redis durability not known" in gateway.log()
        async with _client(gateway) as lp:
            await _within(10.0, Unavailable, lambda: lp.get_profile("u1"))
            with pytest.raises(NotFound):
                await lp.get_item("no-such-item")
