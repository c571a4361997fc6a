"""The decoder as a process: what it answers, what it refuses, and what it keeps when it is killed."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from langptune.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from langptune.local.process import free_port
from langptune.rpc import open_channel
from langptune.v1 import common_pb2, decoder_pb2, decoder_pb2_grpc
from langptune.weights import Manifest, WeightsStore
from tests.support.micro_embedder import WORDS, make_micro_embedder
from tests.support.processes import ROOT, RunningService, running_service


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_micro_embedder(tmp_path_factory.mktemp("model") / "micro", seed=1)


def environment(folder: Path, model: Path) -> dict[str, str]:
    return {
        "LANGPTUNE_DECODER_DATA": str(folder / "data"),
        "LANGPTUNE_DECODER_MIN_FREE_DISK": "0",
        "LANGPTUNE_DECODER_BUILD_NICENESS": "0",
        "LANGPTUNE_DECODER_INLINE_ITEMS": "1000",
        "LANGPTUNE_WEIGHTS_URI": str(folder / "weights"),
        "LANGPTUNE_WEIGHTS_CACHE": str(folder / "cache"),
        "LANGPTUNE_EMBEDDING_MODEL": str(model),
    }


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[RunningService]:
    """One process with 500 items, shared by the tests that change nothing."""
    folder = tmp_path_factory.mktemp("decoder")
    with running_service("decoder", folder, environment(folder, model)) as running:
        report = asyncio.run(import_items(running.address, some_items(500)))
        assert (report.imported, report.unchanged, report.rejected, report.catalogue_size) == (500, 0, 0, 500)
        yield running


def run_decoder(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m services.decoder` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "services.decoder", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@asynccontextmanager
async def stub_of(address: str) -> AsyncIterator[decoder_pb2_grpc.DecoderServiceStub]:
    channel = open_channel(address)
    try:
        yield decoder_pb2_grpc.DecoderServiceStub(channel)
    finally:
        await channel.close()


def some_items(count: int) -> list[common_pb2.Item]:
    rng = random.Random(0)
    return [
        common_pb2.Item(
            item_id=f"i{at:04d}",
            title=" ".join(rng.choices(WORDS, k=3)),
            description=" ".join(rng.choices(WORDS, k=10)),
            categories=rng.sample(WORDS, 2),
            average_rating=round(rng.uniform(1, 5), 1),
        )
        for at in range(count)
    ]


async def messages(items: Sequence[common_pb2.Item], size: int = 100) -> AsyncIterator[decoder_pb2.ImportItemsRequest]:
    for start in range(0, len(items), size):
        yield decoder_pb2.ImportItemsRequest(items=items[start : start + size])


async def import_items(address: str, items: Sequence[common_pb2.Item]) -> decoder_pb2.ImportItemsResponse:
    async with stub_of(address) as stub:
        report: decoder_pb2.ImportItemsResponse = await stub.ImportItems(messages(items))
        return report


async def base_version(stub: decoder_pb2_grpc.DecoderServiceStub) -> str:
    listed = await stub.ListDecoderVersions(decoder_pb2.ListDecoderVersionsRequest())
    return str(listed.base_decoder_version)


def test_health_and_reflection(service: RunningService) -> None:
    with grpc.insecure_channel(service.address) as channel:
        name = "langptune.v1.DecoderService"
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (listed,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=5)
        assert name in {found.name for found in listed.list_services_response.service}


async def test_rank_and_rank_targets_answer_alike(service: RunningService) -> None:
    async with stub_of(service.address) as stub:
        version = await base_version(stub)
        seen = ["i0001", "i0002", "nobody"]
        ranked = await stub.Rank(
            decoder_pb2.RankRequest(text="love and war in space", decoder_version=version, k=20, exclude_item_ids=seen)
        )
        assert [place.position for place in ranked.items] == list(range(1, 21))
        scores = [place.score for place in ranked.items]
        assert scores == sorted(scores, reverse=True)
        assert (ranked.decoder_version, ranked.truncated) == (version, False)
        queries = [
            decoder_pb2.TargetQuery(text="love and war in space", target_item_ids=[place.item.item_id], exclude_item_ids=seen)
            for place in ranked.items
        ]
        exact = await stub.RankTargets(decoder_pb2.RankTargetsRequest(queries=queries, decoder_version=version, cutoff=10))
        assert [list(result.ranks) for result in exact.results] == [[place] for place in range(1, 21)]
        assert exact.catalogue_size == 500
        assert exact.results[2].ndcg == pytest.approx(0.5)  # 1 / log2(1 + 3)
        assert (exact.results[2].mrr, exact.results[10].ndcg, exact.results[10].recall) == (pytest.approx(1 / 3), 0.0, 0.0)


async def test_more_than_there_is_gives_what_there_is(service: RunningService) -> None:
    async with stub_of(service.address) as stub:
        request = decoder_pb2.RankRequest(text="war " * 500, decoder_version=await base_version(stub), k=1_000)
        ranked = await stub.Rank(request)
        assert len({place.item.item_id for place in ranked.items}) == 500
        assert ranked.truncated


async def test_ranks_by_history_avoids_explains_and_pages(service: RunningService) -> None:
    items = some_items(500)
    history = common_pb2.History(interactions=[common_pb2.Interaction(item=items[at], rating=5.0) for at in (3, 4)])
    async with stub_of(service.address) as stub:
        version = await base_version(stub)
        request = decoder_pb2.RankRequest(history=history, decoder_version=version, k=40)
        first = await stub.Rank(request)
        assert 0.0 < first.coverage < 1.0  # two entries are over the 64 tokens of the model
        request.page_token = first.next_page_token
        second = await stub.Rank(request)
        assert [place.position for place in second.items] == list(range(41, 81))
        request.k = 80
        request.ClearField("page_token")
        whole = await stub.Rank(request)
        assert [place.item.item_id for place in whole.items] == [place.item.item_id for place in [*first.items, *second.items]]
        request.avoid.append(first.items[0].item.categories[0])
        avoided = await stub.Rank(request)
        assert all(request.avoid[0] not in place.item.categories for place in avoided.items)
        assert avoided.items[0].item.item_id != first.items[0].item.item_id
        request.page_token = first.next_page_token
        with pytest.raises(InvalidArgument, match="page_token: belongs to another question"):
            await stub.Rank(request)
        with pytest.raises(InvalidArgument, match="text: is required"):
            await stub.Rank(decoder_pb2.RankRequest(decoder_version=version, k=1))
        why = await stub.Explain(
            decoder_pb2.ExplainRequest(text="Love and war. Quiet trains.", decoder_version=version, item_ids=["i0003"])
        )
        assert list(why.sentences) == ["Love and war.", "Quiet trains."]
        assert len(why.explanations[0].contributions) == 2
        listed = await stub.ListDecoderVersions(decoder_pb2.ListDecoderVersionsRequest())
        assert listed.decoder_versions[0].queries.cache_hits > 0


async def test_items_are_read_singly_in_batches_and_by_pages(service: RunningService) -> None:
    items = some_items(500)
    async with stub_of(service.address) as stub:
        assert (await stub.GetItem(decoder_pb2.GetItemRequest(item_id="i0007"))).item == items[7]
        batch = await stub.BatchGetItems(decoder_pb2.BatchGetItemsRequest(item_ids=["i0009", "nobody", "i0003"]))
        assert (list(batch.items), list(batch.unknown_item_ids)) == ([items[9], items[3]], ["nobody"])
        listed: list[common_pb2.Item] = []
        token = ""
        while True:
            page = await stub.ListItems(decoder_pb2.ListItemsRequest(page_size=150, page_token=token))
            assert page.total_size == 500
            listed += page.items
            token = page.next_page_token
            if not token:
                break
        assert listed == items


async def test_importing_again_changes_nothing_and_bad_items_are_reported(service: RunningService) -> None:
    good = some_items(3)
    bad = [
        common_pb2.Item(item_id="nan", title="t", average_rating=math.nan),
        common_pb2.Item(item_id="control", title="a\x00b"),
        common_pb2.Item(item_id="long", title="x" * (1 << 20)),
        common_pb2.Item(title="no id"),
        common_pb2.Item(item_id="no spaces please", title="t"),
        common_pb2.Item(item_id="cheap", title="t", price=-1.0),
    ]
    report = await import_items(service.address, [good[0], *bad, *good[1:]])
    assert (report.imported, report.unchanged, report.rejected, report.catalogue_size) == (0, 3, 6, 500)
    assert [(entry.index, entry.id, entry.field) for entry in report.rejections] == [
        (1, "nan", "average_rating"),
        (2, "control", "title"),
        (3, "long", "title"),
        (4, "", "item_id"),
        (5, "no spaces please", "item_id"),
        (6, "cheap", "price"),
    ]
    assert report.rejections[1].reason == "holds the control character U+0000 at position 1"
    assert report.rejections[2].reason == "is 1,048,576 characters long; the limit is 1,000"


BAD_REQUESTS: list[tuple[str, dict[str, object], str]] = [
    ("Rank", {"text": "x", "k": 0}, "k"),
    ("Rank", {"text": "x", "k": 10**9}, "k"),
    ("Rank", {"text": "", "k": 5}, "text"),
    ("Rank", {"text": "a\x1bb", "k": 5}, "text"),
    ("Rank", {"text": "x" * (1 << 20), "k": 5}, "text"),
    ("Rank", {"text": "x", "k": 5, "decoder_version": ""}, "decoder_version"),
    ("Rank", {"text": "x", "k": 5, "decoder_version": "../../etc"}, "decoder_version"),
    ("Rank", {"text": "x", "k": 5, "exclude_item_ids": ["a"] * 10_001}, "exclude_item_ids"),
    ("RankTargets", {"queries": []}, "queries"),
    ("RankTargets", {"queries": [{"text": "x"}]}, "queries[0].target_item_ids"),
    ("RankTargets", {"queries": [{"text": "\x00", "target_item_ids": ["i0001"]}]}, "queries[0].text"),
    ("RankTargets", {"queries": [{"text": "x", "target_item_ids": ["nobody"]}]}, "queries[0].target_item_ids[0]"),
    ("RankTargets", {"queries": [{"text": "x", "target_item_ids": ["i0001"]}], "cutoff": -1}, "cutoff"),
    ("GetItem", {"item_id": ""}, "item_id"),
    ("BatchGetItems", {"item_ids": []}, "item_ids"),
    ("BatchGetItems", {"item_ids": ["fine", "not fine"]}, "item_ids[1]"),
    ("ListItems", {"page_size": 1_001}, "page_size"),
    ("ListItems", {"page_token": "rubbish"}, "page_token"),
    ("ListItems", {"page_token": "cnViYmlzaA=="}, "page_token"),
    ("UnloadDecoderVersion", {"decoder_version": "a/b"}, "decoder_version"),
]


@pytest.mark.parametrize(("method", "fields", "field"), BAD_REQUESTS)
async def test_bad_requests_name_the_field(service: RunningService, method: str, fields: dict[str, object], field: str) -> None:
    async with stub_of(service.address) as stub:
        if method in ("Rank", "RankTargets"):
            fields = {"decoder_version": await base_version(stub), **fields}
        request = getattr(decoder_pb2, f"{method}Request")(**fields)
        with pytest.raises(InvalidArgument) as caught:
            await getattr(stub, method)(request)
        assert caught.value.field == field
        assert "Traceback" not in caught.value.message


async def test_what_is_not_there_is_not_found(service: RunningService) -> None:
    async with stub_of(service.address) as stub:
        with pytest.raises(NotFound, match="item 'nobody'"):
            await stub.GetItem(decoder_pb2.GetItemRequest(item_id="nobody"))
        with pytest.raises(NotFound, match="decoder version 'nope'"):
            await stub.Rank(decoder_pb2.RankRequest(text="x", k=3, decoder_version="nope"))
        with pytest.raises(NotFound, match="decoder version 'nope'"):
            async for _ in stub.LoadDecoderVersion(decoder_pb2.LoadDecoderVersionRequest(decoder_version="nope")):
                pass
        await stub.UnloadDecoderVersion(decoder_pb2.UnloadDecoderVersionRequest(decoder_version="nope"))


def shelf() -> list[common_pb2.Item]:
    years = {"ant": 1998, "bee": 2001, "cat": 2010}
    items = [common_pb2.Item(item_id=name, title=f"love {name}", categories=["animal", name], price=1.5) for name in years]
    for item in items:
        item.attributes.update({"year": years[item.item_id]})
    return items


async def test_the_catalogue_can_be_changed_and_filtered_and_long_items_are_listed(tmp_path: Path, model: Path) -> None:
    """The 24 long items are 9.6 MB: two pages, though one was asked for."""
    long = [common_pb2.Item(item_id=f"long{at:02d}", title="t", description="\U0001f47b" * 100_000) for at in range(24)]
    since_2000 = common_pb2.ItemFilter(
        all=[common_pb2.ItemCondition(field="year", range=common_pb2.NumberRange(min=2000))],
        none=[common_pb2.ItemCondition(field="categories", any_of=common_pb2.TextSet(values=["cat"]))],
    )
    with running_service("decoder", tmp_path, environment(tmp_path, model)) as running:
        async with stub_of(running.address) as stub:
            version = await base_version(stub)
            wrong = common_pb2.Item(item_id="wrong", title="t")
            wrong.attributes.update({"year": "1999"})
            report = await import_items(running.address, [*shelf(), wrong])
            assert [(entry.index, entry.field) for entry in report.rejections] == [(3, "attributes.year")]

            ranked = await stub.Rank(decoder_pb2.RankRequest(text="love", decoder_version=version, k=5, filter=since_2000))
            assert [place.item for place in ranked.items] == shelf()[1:2]
            query = decoder_pb2.TargetQuery(text="love", target_item_ids=["bee"])
            ranks = decoder_pb2.RankTargetsRequest(queries=[query], decoder_version=version, filter=since_2000)
            answer = await stub.RankTargets(ranks)
            assert (list(answer.results[0].ranks), answer.catalogue_size) == ([1], 1)
            ranks.queries[0].target_item_ids[0] = "ant"
            with pytest.raises(InvalidArgument, match="the filter does not pass 'ant'"):
                await stub.RankTargets(ranks)
            for condition, says in (
                (common_pb2.ItemCondition(field="colour", flag=True), r"filter.all\[0\].field: 'colour' is not filterable"),
                (common_pb2.ItemCondition(field="year", flag=True), r"filter.all\[0\]: year is a number field"),
            ):
                request = decoder_pb2.RankRequest(text="x", decoder_version=version, k=1)
                request.filter.all.append(condition)
                with pytest.raises(InvalidArgument, match=says):
                    await stub.Rank(request)

            changes = decoder_pb2.UpdateItemRequest(item=common_pb2.Item(item_id="bee", title="war bee"))
            changes.update_mask.paths.extend(["title", "price"])
            updated = (await stub.UpdateItem(changes)).item
            assert (updated.title, updated.HasField("price"), list(updated.categories)) == ("war bee", False, ["animal", "bee"])
            assert (await stub.GetItem(decoder_pb2.GetItemRequest(item_id="bee"))).item == updated
            changes.update_mask.paths.append("item_id")
            with pytest.raises(InvalidArgument, match="'item_id' cannot be updated"):
                await stub.UpdateItem(changes)
            with pytest.raises(NotFound):
                await stub.UpdateItem(decoder_pb2.UpdateItemRequest(item=common_pb2.Item(item_id="nobody", title="t")))

            deleted = await stub.DeleteItems(decoder_pb2.DeleteItemsRequest(item_ids=["ant", "nobody", "ant"]))
            assert (deleted.deleted, list(deleted.unknown_item_ids)) == (1, ["nobody"])
            ranked = await stub.Rank(decoder_pb2.RankRequest(text="love", decoder_version=version, k=5))
            assert sorted(place.item.item_id for place in ranked.items) == ["bee", "cat"]

            await stub.ImportItems(messages(long, 12))
            first = await stub.ListItems(decoder_pb2.ListItemsRequest(page_size=1_000))
            rest = await stub.ListItems(decoder_pb2.ListItemsRequest(page_size=1_000, page_token=first.next_page_token))
            assert [item.item_id for item in (*first.items, *rest.items)] == ["bee", "cat", *(item.item_id for item in long)]
            assert (len(first.items) > 15, len(rest.items) > 0, rest.next_page_token) == (True, True, "")
            assert rest.items[-1] == long[-1]


async def test_ranking_stays_responsive_while_a_version_is_built(tmp_path: Path, model: Path) -> None:
    """Also: an empty catalogue is a failed precondition; the new version is listed when its load is done."""
    env = environment(tmp_path, model)
    other = make_micro_embedder(tmp_path / "other", seed=2, dimensions=64)
    with running_service("decoder", tmp_path, env) as running:
        async with stub_of(running.address) as stub:
            base = await base_version(stub)
            with pytest.raises(FailedPrecondition, match="empty"):
                await stub.Rank(decoder_pb2.RankRequest(text="x", k=3, decoder_version=base))
            await stub.ImportItems(messages(some_items(3_000), 1_000))
            added = WeightsStore(str(tmp_path / "weights"), tmp_path / "cache").add(other, Manifest("v2", "decoder", str(model)))
            request = decoder_pb2.LoadDecoderVersionRequest(decoder_version=added.version)

            async def build() -> list[decoder_pb2.LoadDecoderVersionResponse]:
                return [progress async for progress in stub.LoadDecoderVersion(request)]

            building = asyncio.create_task(build())
            answered = 0
            while not building.done():
                await stub.Rank(decoder_pb2.RankRequest(text=f"war {answered}", k=3, decoder_version=base), timeout=5.0)
                answered += 1
            told = building.result()
            assert answered >= 3
            assert [progress.done for progress in told] == [False] * (len(told) - 1) + [True]
            assert (told[-1].embedded, told[-1].total) == (3_000, 3_000)
            listed = await stub.ListDecoderVersions(decoder_pb2.ListDecoderVersionsRequest())
            assert {(v.decoder_version, v.items, v.dimensions) for v in listed.decoder_versions} == {
                (base, 3_000, 16),
                (added.version, 3_000, 64),
            }


async def test_nothing_acknowledged_is_lost_when_it_is_killed(tmp_path: Path, model: Path) -> None:
    """Killed after an import, and in the middle of building a version; each time all is there, and the version loads again."""
    env = environment(tmp_path, model)
    other = make_micro_embedder(tmp_path / "other", seed=2, dimensions=64)
    query = decoder_pb2.TargetQuery(text="dragon in winter", target_item_ids=["i1234"])
    with running_service("decoder", tmp_path, env) as running:
        async with stub_of(running.address) as stub:
            base = await base_version(stub)
            await stub.ImportItems(messages(some_items(2_000), 1_000))
            before = await stub.RankTargets(decoder_pb2.RankTargetsRequest(queries=[query], decoder_version=base))
        running.kill()

    added = WeightsStore(str(tmp_path / "weights"), tmp_path / "cache").add(other, Manifest("v2", "decoder", str(model)))
    load = decoder_pb2.LoadDecoderVersionRequest(decoder_version=added.version)
    with running_service("decoder", tmp_path, env) as running:
        async with stub_of(running.address) as stub:
            after = await stub.RankTargets(decoder_pb2.RankTargetsRequest(queries=[query], decoder_version=base))
            assert after == before

            async def load_and_kill() -> None:
                async for progress in stub.LoadDecoderVersion(load):
                    if 0 < progress.embedded < 2_000:
                        running.kill()

            with pytest.raises(Unavailable):
                await load_and_kill()

    with running_service("decoder", tmp_path, env) as running:
        async with stub_of(running.address) as stub:
            assert (await stub.RankTargets(decoder_pb2.RankTargetsRequest(queries=[query], decoder_version=base))) == before
            told = [progress async for progress in stub.LoadDecoderVersion(load)]
            assert told[-1].done
            assert min(progress.embedded for progress in told[1:]) > 0  # what was built before the kill is not built again
            new = await stub.RankTargets(decoder_pb2.RankTargetsRequest(queries=[query], decoder_version=added.version))
            assert new.catalogue_size == 2_000
            report = await stub.ImportItems(messages(some_items(2_000), 1_000))
            assert (report.imported, report.unchanged) == (0, 2_000)


def test_what_stops_the_start_is_one_sentence(tmp_path: Path, model: Path, service: RunningService) -> None:
    env = {**environment(tmp_path, model), "LANGPTUNE_DECODER_PORT": str(free_port())}
    port = str(service.port)
    for changes, sentence in (
        ({"LANGPTUNE_EMBEDDING_MODEL": str(tmp_path / "nowhere")}, f"the model folder {tmp_path / 'nowhere'} does not exist"),
        ({"LANGPTUNE_DECODER_PORT": port}, f"cannot listen on 127.0.0.1:{port}"),
        ({"LANGPTUNE_EMBED_BATCH_TOKENS": "0"}, "bad setting LANGPTUNE_EMBED_BATCH_TOKENS"),
    ):
        ended = run_decoder({**env, **changes})
        assert ended.returncode == 2
        assert sentence in ended.stderr
        assert "Traceback" not in ended.stderr


def test_the_settings_can_be_shown_without_starting(tmp_path: Path, model: Path) -> None:
    ended = run_decoder({**environment(tmp_path, model), "LANGPTUNE_DECODER_PORT": "1234"}, "--print-config")
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["decoder_port"] == 1234
