"""What every index engine must do. A further engine joins by one more entry in ENGINES.

qdrant-client's local mode stands in for a Qdrant server, which cannot be installed here; where QDRANT_URL names a real one (gRPC
on port 6334), the same tests run against it, in collections with a prefix of their own.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client import AsyncQdrantClient

from langptune.domain import Item
from langptune.errors import FailedPrecondition, ResourceExhausted, Unavailable
from services.decoder.index import AnyOf, Between, Collection, Engine, Entry, Flag, ItemFilter, Search
from services.decoder.index import edge as edge_module
from services.decoder.index.edge import EdgeEngine
from services.decoder.index.filter import OWN_FIELDS, Condition
from services.decoder.index.layout import LAYOUTS, Layout
from services.decoder.index.server import Calls, ServerEngine
from services.decoder.soundness import LEAST_OVERLAP, check_graph

FIELDS = {**OWN_FIELDS, "year": "number", "languages": "text", "animated": "flag"}
PLAIN = LAYOUTS["10k"]
HALF = replace(PLAIN, vectors="float16")
pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact", "ignore:Payload indexes have no effect in the local")


def edge(folder: Path, layout: Layout = PLAIN) -> EdgeEngine:
    return EdgeEngine(folder, layout=layout, fields=FIELDS)


def local_mode(folder: Path, layout: Layout = PLAIN) -> ServerEngine:
    return ServerEngine(Calls(AsyncQdrantClient(path=str(folder)), tries=1), layout, FIELDS)


def real_server(folder: Path, layout: Layout = PLAIN) -> ServerEngine:
    url = os.environ["QDRANT_URL"]
    prefix = f"test-{uuid.uuid5(uuid.NAMESPACE_URL, str(folder)).hex}-"
    return ServerEngine.connect(
        url, grpc_port=6334, api_key=None, deadline=10.0, tries=3, layout=layout, fields=FIELDS, prefix=prefix
    )


ENGINES: dict[str, Callable[..., Engine]] = {
    "edge": edge,
    "local-mode": local_mode,
    **({"server": real_server} if "QDRANT_URL" in os.environ else {}),
}

OpenEngine = Callable[[], Engine]


@pytest.fixture(params=sorted(ENGINES))
def open_engine(request: pytest.FixtureRequest, tmp_path: Path) -> OpenEngine:
    return lambda: ENGINES[request.param](tmp_path / "data")


@pytest.fixture(params=sorted(ENGINES))
def open_half(request: pytest.FixtureRequest, tmp_path: Path) -> OpenEngine:
    return lambda: ENGINES[request.param](tmp_path / "data", HALF)


@asynccontextmanager
async def opened(engine: Engine, name: str = "version-a.b:c", dimensions: int = 2) -> AsyncIterator[Collection]:
    collection = await engine.open(name, dimensions)
    try:
        yield collection
    finally:
        await collection.close()


@pytest.fixture
async def collection(open_engine: OpenEngine) -> AsyncIterator[Collection]:
    engine = open_engine()
    async with opened(engine) as collection:
        yield collection
    await engine.drop("version-a.b:c")
    await engine.close()


def entry(item_id: str, x: float, y: float, title: str = "title") -> Entry:
    return Entry(Item(item_id, title), "r1", np.array([x, y], dtype=np.float32))


EAST = np.array([1.0, 0.0], dtype=np.float32)


async def ids(collection: Collection, limit: int, exclude: frozenset[str] = frozenset(), offset: int = 0) -> list[str]:
    hits = await collection.search(Search(EAST, limit, offset, exclude=exclude))
    return [hit.item.item_id for hit in hits]


async def all_vectors(collection: Collection) -> tuple[list[str], NDArray[np.float32]]:
    blocks = [block async for block in collection.vectors()]
    return [item_id for names, _ in blocks for item_id in names], np.concatenate([rows for _, rows in blocks])


async def test_search_is_best_first_with_the_dot_product_as_score(collection: Collection) -> None:
    await collection.put([entry("low", 0.0, 1.0), entry("high", 1.0, 0.0), entry("middle", 0.6, 0.8)])
    hits = await collection.search(Search(EAST, 3))
    assert [(hit.item.item_id, hit.score) for hit in hits] == [("high", 1.0), ("middle", pytest.approx(0.6)), ("low", 0.0)]
    assert [hit.vector for hit in hits] == [None] * 3


async def test_search_brings_the_vectors_when_asked(collection: Collection) -> None:
    await collection.put([entry("low", 0.0, 1.0), entry("high", 0.6, 0.8)])
    hits = await collection.search(Search(EAST, 3, with_vectors=True))
    assert np.array_equal([hit.vector for hit in hits], np.array([[0.6, 0.8], [0.0, 1.0]], dtype=np.float32))


async def test_search_leaves_out_what_is_excluded_and_gives_fewer_when_there_are_no_more(collection: Collection) -> None:
    await collection.put([entry("a", 1.0, 0.0), entry("b", 0.8, 0.6), entry("c", 0.6, 0.8)])
    assert await ids(collection, 10, frozenset({"a", "nobody"})) == ["b", "c"]
    assert await ids(collection, 10, frozenset({"a", "b", "c"})) == []


async def test_equal_scores_stand_in_the_order_of_their_ids_also_at_the_cut(collection: Collection) -> None:
    await collection.put([entry(f"t{at:02d}", 0.6, 0.8) for at in reversed(range(50))] + [entry("best", 1.0, 0.0)])
    assert await ids(collection, 1) == ["best"]
    assert await ids(collection, 4) == ["best", "t00", "t01", "t02"]
    assert await ids(collection, 60) == ["best", *(f"t{at:02d}" for at in range(50))]


async def test_searches_at_once_find_what_each_finds_alone(collection: Collection) -> None:
    """Also with filters, exclusions, pages and vectors of their own; scores to the last bit."""
    rng = np.random.default_rng(6)
    items = [Item(f"i{at:03d}", "t", categories=(f"c{at % 3}",)) for at in range(200)]
    vectors = rng.standard_normal((200, 2)).astype(np.float32)
    await collection.put([Entry(item, "r", row) for item, row in zip(items, vectors, strict=True)])
    searches = [Search(query, 4) for query in rng.standard_normal((70, 2)).astype(np.float32)]
    searches += [
        Search(vectors[0], 5, 3),
        Search(vectors[1], 5, where=ItemFilter(all=(AnyOf("categories", ("c1",)),))),
        Search(vectors[2], 5, exclude=frozenset(["i002", "i005"])),
        Search(vectors[3], 2, with_vectors=True),
    ]
    alone = [await collection.search(search) for search in searches]
    together = await asyncio.gather(*map(collection.search, searches))
    assert [[(hit.item, hit.score) for hit in hits] for hits in together] == [
        [(hit.item, hit.score) for hit in hits] for hits in alone
    ]
    assert all(np.array_equal(a.vector, b.vector) for a, b in zip(together[-1], alone[-1], strict=True))


async def test_pages_of_a_search_make_up_the_whole_also_between_equal_scores(collection: Collection) -> None:
    await collection.put([entry(f"t{at:02d}", 0.6, 0.8) for at in range(30)] + [entry("best", 1.0, 0.0)])
    pages = [await ids(collection, 7, offset=offset) for offset in range(0, 42, 7)]
    assert [item_id for page in pages for item_id in page] == await ids(collection, 31)
    assert [len(page) for page in pages] == [7, 7, 7, 7, 3, 0]


SHELF = [
    Item("ant", "Ant", categories=("insect", "black"), price=1.0, attributes={"year": 1998.0, "animated": True}),
    Item("bee", "Bee", categories=("insect",), price=2.5, average_rating=4.5, attributes={"languages": ("en", "fr")}),
    Item("cat", "Cat", categories=("mammal", "black"), average_rating=2.0, attributes={"year": 2010.0, "languages": ("fr",)}),
    Item("dog", "Dog", attributes={"animated": False, "year": 1998.0}),
]
FILTERS: list[tuple[list[Condition], list[Condition], list[str]]] = [
    ([], [], ["ant", "bee", "cat", "dog"]),
    ([AnyOf("categories", ("insect",))], [], ["ant", "bee"]),
    ([AnyOf("categories", ("mammal", "black"))], [], ["ant", "cat"]),
    ([AnyOf("categories", ("insect",)), AnyOf("categories", ("black",))], [], ["ant"]),
    ([AnyOf("categories", ("Insect", "insec"))], [], []),  # letter for letter
    ([], [AnyOf("categories", ("insect",))], ["cat", "dog"]),  # dog has none
    ([Between("price", low=1.0)], [], ["ant", "bee"]),  # both ends belong to the range; no price is no match
    ([Between("price", 1.0, 2.4)], [], ["ant"]),
    ([], [Between("price", high=1.0)], ["bee", "cat", "dog"]),
    ([Between("average_rating", high=4.5)], [], ["bee", "cat"]),
    ([Between("year", 1998, 1998)], [], ["ant", "dog"]),
    ([AnyOf("languages", ("fr", "de"))], [], ["bee", "cat"]),
    ([Flag("animated", False)], [], ["dog"]),
    ([], [Flag("animated", True)], ["bee", "cat", "dog"]),
    ([Between("year", low=1990)], [AnyOf("categories", ("black",)), Flag("animated", True)], ["dog"]),
]


@pytest.mark.parametrize(("every", "none", "expected"), FILTERS)
async def test_filters_mean_the_same_to_search_and_scan(
    collection: Collection, every: list[Condition], none: list[Condition], expected: list[str]
) -> None:
    await collection.put([Entry(item, "r", EAST) for item in SHELF])
    where = ItemFilter(tuple(every), tuple(none))
    assert [hit.item for hit in await collection.search(Search(EAST, 9, where=where))] == [
        item for item in SHELF if item.item_id in expected
    ]
    assert sorted(await collection.matching(where)) == expected
    hits = await collection.search(Search(EAST, 9, where=where, exclude=frozenset({"ant", "bee"})))
    assert [hit.item.item_id for hit in hits] == [item_id for item_id in expected if item_id in {"cat", "dog"}]


async def test_putting_again_replaces(collection: Collection) -> None:
    new = Item("a", "new", "text", ("x", "y"), 4.5, 0.0, {"year": 1999.0, "seen": True, "by": ("me", "you"), "to": "all"})
    await collection.put([entry("a", 1.0, 0.0, "old"), entry("b", 0.6, 0.8)])
    await collection.put([Entry(new, "r2", np.array([0.0, 1.0], dtype=np.float32))])
    assert await collection.count() == 2
    assert await ids(collection, 2) == ["b", "a"]
    assert await collection.get(["a"]) == [new]
    assert await collection.revisions() == {"a": "r2", "b": "r1"}


async def test_what_is_deleted_is_gone(collection: Collection) -> None:
    await collection.put([entry("a", 1.0, 0.0), entry("b", 0.6, 0.8), entry("c", 0.0, 1.0)])
    await collection.delete(["b", "nobody"])
    assert await ids(collection, 5) == ["a", "c"]
    assert await collection.count() == 2
    assert await collection.get(["b"]) == []
    await collection.delete(["a", "c"])
    assert await collection.revisions() == {}


async def test_get_keeps_the_order_asked_for_and_leaves_out_the_unknown(collection: Collection) -> None:
    await collection.put([entry("a", 1.0, 0.0), entry("b", 0.6, 0.8)])
    assert [item.item_id for item in await collection.get(["b", "nobody", "a"])] == ["b", "a"]


async def test_vectors_come_back_to_the_last_bit_and_every_scan_has_one_order(collection: Collection) -> None:
    rng = np.random.default_rng(0)
    given = rng.standard_normal((300, 2)).astype(np.float32)
    await collection.put([Entry(Item(f"i{at}", "t"), "r", row) for at, row in enumerate(given)])
    item_ids, vectors = await all_vectors(collection)
    assert sorted(item_ids) == sorted(f"i{at}" for at in range(300))
    assert np.array_equal(vectors, given[[int(item_id[1:]) for item_id in item_ids]])
    assert list(await collection.revisions()) == item_ids
    assert await collection.matching(ItemFilter()) == item_ids


async def test_float16_collections_hold_rounded_vectors_to_the_last_bit(open_half: OpenEngine) -> None:
    rng = np.random.default_rng(0)
    given = rng.standard_normal((20, 3)).astype(np.float32)
    rounded = np.array([HALF.rounded(row) for row in given])
    engine = open_half()
    async with opened(engine, "half", 3) as collection:
        await collection.put([Entry(Item(f"i{at:02d}", "t"), "r", row) for at, row in enumerate(rounded)])
        item_ids, vectors = await all_vectors(collection)
        assert np.array_equal(vectors, rounded[[int(item_id[1:]) for item_id in item_ids]])
        hits = await collection.search(Search(given[0], 20))
        exact = rounded.astype(np.float64) @ given[0].astype(np.float64)
        assert [hit.item.item_id for hit in hits] == [f"i{at:02d}" for at in np.argsort(-exact)]
    await engine.drop("half")
    await engine.close()


async def test_an_empty_collection_answers(collection: Collection) -> None:
    assert (await collection.count(), await collection.revisions()) == (0, {})
    assert (await collection.get(["a"]), await ids(collection, 3), await collection.matching(ItemFilter())) == ([], [], [])
    assert [block async for block in collection.vectors()] == []


async def test_everything_is_there_after_reopening_and_collections_are_apart(open_engine: OpenEngine) -> None:
    engine = open_engine()
    async with opened(engine, "items", 0) as items, opened(engine, "vectors", 2) as vectors:
        await items.put([Entry(Item("a", "A"), "r1"), Entry(Item("b", "B"), "r2")])
        await vectors.put([entry("a", 1.0, 0.0)])
        await items.flush()
    await engine.close()

    engine = open_engine()
    async with opened(engine, "items", 0) as items:
        assert await items.revisions() == {"a": "r1", "b": "r2"}
        assert await items.get(["b"]) == [Item("b", "B")]
        async with opened(engine, "vectors", 2) as vectors:
            assert await vectors.count() == 1
        await engine.drop("vectors")
        await engine.drop("vectors")
        async with opened(engine, "vectors", 3) as vectors:
            assert await vectors.count() == 0
    await engine.close()


async def test_a_shard_has_one_opener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_module, "_LOCK_WAIT", 0.1)
    engine = EdgeEngine(tmp_path)
    async with opened(engine, "items"):
        with pytest.raises(FailedPrecondition, match="another decoder uses the folder"):
            await EdgeEngine(tmp_path).open("items", 2)
    async with opened(EdgeEngine(tmp_path), "items"):
        pass


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FailedPrecondition, match="cannot be used"):
        EdgeEngine(tmp_path / "file")


async def test_a_collection_whose_making_was_interrupted_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "items~partial" / "rubbish").mkdir(parents=True)
    async with opened(EdgeEngine(tmp_path), "items") as collection:
        assert await collection.count() == 0


async def test_a_field_declared_later_can_be_filtered_by(tmp_path: Path) -> None:
    async with opened(EdgeEngine(tmp_path), "items") as collection:
        await collection.put([Entry(item, "r", EAST) for item in SHELF])
    async with opened(EdgeEngine(tmp_path, fields=FIELDS), "items") as collection:
        assert sorted(await collection.matching(ItemFilter((Between("year", 1998, 1998),)))) == ["ant", "dog"]


async def test_a_damaged_collection_is_a_typed_error_without_the_engines_words(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    with pytest.raises(Unavailable, match=r"^the item index failed to open"):
        await EdgeEngine(tmp_path).open("items", 2)


async def test_a_disk_that_is_nearly_full_refuses_writes_and_still_reads(tmp_path: Path) -> None:
    async with opened(EdgeEngine(tmp_path), "items") as collection:
        await collection.put([entry("a", 1.0, 0.0)])
    engine = EdgeEngine(tmp_path, min_free_disk=1 << 60)
    async with opened(engine, "items") as collection:
        with pytest.raises(ResourceExhausted, match="must stay free"):
            await collection.put([entry("b", 1.0, 0.0)])
        assert await ids(collection, 5) == ["a"]
        with pytest.raises(ResourceExhausted):
            await engine.open("other", 2)


CLUSTERED = np.random.default_rng(4).standard_normal((1_500, 16)).astype(np.float32)


async def test_a_graph_takes_all_items_and_finds_what_a_scan_finds(tmp_path: Path) -> None:
    engine = edge(tmp_path, replace(PLAIN, graph=True, graph_from=10))
    async with opened(engine, "items", 16) as collection:
        await collection.put([Entry(Item(f"i{at:04d}", "t"), "r", row) for at, row in enumerate(CLUSTERED)])
        assert await collection.unindexed() == 1_500
        await collection.optimise()
        assert await check_graph(collection) >= LEAST_OVERLAP
    async with opened(engine, "items", 16) as collection:
        assert (await collection.unindexed(), await collection.count()) == (0, 1_500)
        await collection.put([Entry(Item("i0000", "new"), "r2", CLUSTERED[0])])
        hits = await collection.search(Search(CLUSTERED[0], 1, exact=False))
        assert [hit.item for hit in hits] == [Item("i0000", "new")]


async def test_a_graph_that_finds_too_little_is_refused(tmp_path: Path) -> None:
    engine = edge(tmp_path, replace(PLAIN, graph=True, graph_from=10, graph_degree=2, graph_effort=4, graph_reach=1))
    async with opened(engine, "items", 16) as collection:
        await collection.put([Entry(Item(f"i{at:04d}", "t"), "r", row) for at, row in enumerate(CLUSTERED)])
        await collection.optimise()
        with pytest.raises(FailedPrecondition, match="99% are needed"):
            await check_graph(collection)
