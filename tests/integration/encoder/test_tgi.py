"""What only the TGI engine can meet: refusals, lost servers, other tokens, servers that change their model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from langptune.errors import FailedPrecondition, InvalidArgument, LangPTuneError, ResourceExhausted, Unavailable
from langptune.weights import Manifest, WeightsStore
from services.encoder.engines.port import RolloutGroup
from services.encoder.engines.tgi import TgiEngine
from tests.integration.encoder.engines import Running, running_engine, settings_for
from tests.support.micro_writer import save_micro_writer
from tests.support.tgi import FakeTgi, serving
from tests.support.tgi_schema import ANSWERS, check


@pytest.fixture
async def running(store: WeightsStore, base_version: str, model_folder: Path) -> AsyncIterator[Running]:
    async with running_engine("tgi", store, base_version, model_folder) as engine:
        yield engine


def server(running: Running) -> FakeTgi:
    assert running.tgi
    return running.tgi


@pytest.mark.parametrize("fault", [429, 424, 500, "drop"])
async def test_a_passing_fault_is_waited_out(running: Running, fault: int | str) -> None:
    expected = await running.engine.generate(running.work())
    server(running).faults.extend([fault, fault])
    assert await running.engine.generate(running.work()) == expected
    assert not server(running).faults


@pytest.mark.parametrize(
    ("fault", "error"), [(429, ResourceExhausted), (424, Unavailable), (500, Unavailable), ("drop", Unavailable)]
)
async def test_a_lasting_fault_is_told_after_four_attempts(
    running: Running, fault: int | str, error: type[LangPTuneError]
) -> None:
    server(running).faults.extend([fault] * 9)
    with pytest.raises(error) as told:
        await running.engine.generate(running.work())
    assert len(server(running).faults) == 5
    if isinstance(told.value, ResourceExhausted):
        assert told.value.retry_after == 0.25


async def test_a_refused_request_is_not_repeated(running: Running) -> None:
    server(running).faults.extend([422] * 2)
    with pytest.raises(InvalidArgument):
        await running.engine.generate(running.work())
    assert len(server(running).faults) == 1


@pytest.mark.parametrize(("faults", "left"), [([429, 424], 0), ([429] * 9, 5)])
async def test_a_stream_is_begun_again_until_a_token_has_come(running: Running, faults: list[int], left: int) -> None:
    """The server tells these errors inside a stream that it has answered with 200."""
    server(running).faults.extend(faults)
    try:
        parts = [part async for part in running.engine.stream(running.work())]
        assert isinstance(parts[-1], RolloutGroup)
    except ResourceExhausted:
        assert left
    assert len(server(running).faults) == left


async def test_a_stream_that_is_dropped_in_the_middle_is_unavailable(running: Running) -> None:
    server(running).faults.append("drop")
    stream = running.engine.stream(running.work(length=50))
    assert isinstance(await anext(stream), str)
    with pytest.raises(Unavailable):
        _ = [part async for part in stream]


async def test_rollouts_never_take_all_of_a_server(store: WeightsStore, base_version: str, model_folder: Path) -> None:
    """Of 4 places they take 3: no request is refused, and a live one goes through beside them."""
    fake = FakeTgi(model_folder, max_concurrent_requests=4, step_seconds=0.002)
    async with serving(fake) as url:
        engine = TgiEngine(settings_for(url), store)
        await engine.start(base_version)
        running = Running("tgi", engine, base_version, fake)
        rollouts = asyncio.create_task(running.sample(running.work(histories=4, samples=4, length=30)))
        await asyncio.sleep(0.05)
        await engine.generate(running.work())
        assert len(await rollouts) == 4
        assert fake.refused == 0
        await engine.close()


async def test_a_server_that_makes_other_tokens_is_not_used(store: WeightsStore, base_version: str, model_folder: Path) -> None:
    other = FakeTgi(model_folder)
    other.tokenizer.add_tokens(["rated"])
    async with serving(other) as url:
        engine = TgiEngine(settings_for(url), store)
        with pytest.raises(FailedPrecondition, match="makes other tokens"):
            await engine.start(base_version)
        await engine.close()


async def test_a_version_is_found_on_the_server_that_was_started_with_it(
    store: WeightsStore, base_version: str, model_folder: Path, tmp_path: Path
) -> None:
    """Two slots: the idle one comes up with a new version, serves beside the old one, and the old one goes."""
    save_micro_writer(tmp_path / "new", 1)
    new = store.add(tmp_path / "new", Manifest(version="trained", kind="encoder", base_model="micro")).version
    blue, green = FakeTgi(model_folder), FakeTgi(tmp_path / "new", model_id=f"/weights/encoder/{new}")
    async with serving(blue) as blue_url, serving(green) as green_url:
        engine = TgiEngine(settings_for(f"{blue_url}, {green_url}"), store)
        await engine.start(base_version)
        assert sorted(engine.versions()) == sorted([base_version, new])
        texts = [
            (await engine.generate(Running("tgi", engine, version, None).work())).rollouts[0] for version in (base_version, new)
        ]
        assert texts[0].token_ids != texts[1].token_ids
        green.model_id = "/weights/encoder/another"
        await engine.unload(new)
        with pytest.raises(FailedPrecondition, match="no TGI server serves"):
            await engine.load(new)
        await engine.close()


async def test_a_start_without_any_server_says_what_is_missing(store: WeightsStore, base_version: str) -> None:
    engine = TgiEngine(settings_for("http://127.0.0.1:1"), store)
    with pytest.raises(FailedPrecondition, match=r"no TGI server at http://127\.0\.0\.1:1"):
        await engine.start(base_version)
    await engine.close()


async def test_ids_that_are_not_those_of_their_text_cannot_be_scored(running: Running) -> None:
    """Token 150 is one byte of a longer character: no text has it alone."""
    with pytest.raises(FailedPrecondition, match="other tokens"):
        await running.engine.score(running.version, [1, 3, 70], [150])


async def test_the_stand_in_answers_as_the_published_api_says(model_folder: Path) -> None:
    """Its answers on routes that the engine does not use, too; it holds all others against the schemas itself."""
    fake = FakeTgi(model_folder)
    ask = {"inputs": "Hello", "parameters": {"max_new_tokens": 5, "details": True, "do_sample": True, "best_of": 2}}
    async with serving(fake) as url, httpx2.AsyncClient(base_url=url) as client:
        assert (await client.get("/health")).status_code == 200
        assert "tgi_queue_size" in (await client.get("/metrics")).text
        answer = (await client.post("/generate", json=ask)).json()
        check(ANSWERS["/generate"], answer)
        assert len(answer["details"]["best_of_sequences"]) == 1
        for change in ({"seed": 3}, {"best_of": 3}, {"do_sample": False}, {"max_new_tokens": 0}):
            refused = await client.post("/generate", json={**ask, "parameters": {**ask["parameters"], **change}})
            assert refused.status_code == 422
            assert refused.json()["error_type"] == "validation"
        fake.healthy = False
        assert (await client.get("/health")).status_code == 503
