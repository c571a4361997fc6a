"""What every index engine must do. A further engine joins by one more entry in ENGINES."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from langptune.domain import Item
from langptune.errors import FailedPrecondition, ResourceExhausted, Unavailable
from services.decoder.index import Collection, Engine, Entry
from services.decoder.index.edge import EdgeEngine

ENGINES: dict[str, Callable[[Path], Engine]] = {"edge": EdgeEngine}


@pytest.fixture(params=sorted(ENGINES))
def open_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Engine]:
    return lambda: ENGINES[request.param](tmp_path / "data")


@pytest.fixture
def collection(open_engine: Callable[[], Engine]) -> Iterator[Collection]:
    engine = open_engine()
    opened = engine.open("version-a.b:c", 2)
    yield opened
    opened.close()
    engine.close()


def entry(item_id: str, x: float, y: float, title: str = "title") -> Entry:
    return Entry(Item(item_id, title), "r1", np.array([x, y], dtype=np.float32))


EAST = np.array([1.0, 0.0], dtype=np.float32)


def ids(collection: Collection, limit: int, exclude: set[str] | None = None) -> list[str]:
    return [hit.item.item_id for hit in collection.search(EAST, limit, exclude or set())]


def test_search_is_best_first_with_the_dot_product_as_score(collection: Collection) -> None:
    collection.put([entry("low", 0.0, 1.0), entry("high", 1.0, 0.0), entry("middle", 0.6, 0.8)])
    hits = collection.search(EAST, 3, set())
    assert [(hit.item.item_id, hit.score) for hit in hits] == [("high", 1.0), ("middle", pytest.approx(0.6)), ("low", 0.0)]


def test_search_leaves_out_what_is_excluded_and_gives_fewer_than_asked_when_there_are_no_more(collection: Collection) -> None:
    collection.put([entry("a", 1.0, 0.0), entry("b", 0.8, 0.6), entry("c", 0.6, 0.8)])
    assert ids(collection, 10, {"a", "nobody"}) == ["b", "c"]
    assert ids(collection, 10, {"a", "b", "c"}) == []


def test_equal_scores_stand_in_the_order_of_their_ids_also_at_the_cut(collection: Collection) -> None:
    collection.put([entry(f"t{at:02d}", 0.6, 0.8) for at in reversed(range(50))] + [entry("best", 1.0, 0.0)])
    assert ids(collection, 1) == ["best"]
    assert ids(collection, 4) == ["best", "t00", "t01", "t02"]
    assert ids(collection, 60) == ["best", *(f"t{at:02d}" for at in range(50))]


def test_putting_again_replaces(collection: Collection) -> None:
    collection.put([entry("a", 1.0, 0.0, "old"), entry("b", 0.6, 0.8)])
    collection.put([Entry(Item("a", "new", "text", ("x", "y"), 4.5, 0.0), "r2", np.array([0.0, 1.0], dtype=np.float32))])
    assert collection.count() == 2
    assert ids(collection, 2) == ["b", "a"]
    assert collection.get(["a"]) == [Item("a", "new", "text", ("x", "y"), 4.5, 0.0)]
    assert collection.revisions() == {"a": "r2", "b": "r1"}


def test_get_keeps_the_order_asked_for_and_leaves_out_the_unknown(collection: Collection) -> None:
    collection.put([entry("a", 1.0, 0.0), entry("b", 0.6, 0.8)])
    assert [item.item_id for item in collection.get(["b", "nobody", "a"])] == ["b", "a"]


def test_vectors_come_back_to_the_last_bit(collection: Collection) -> None:
    rng = np.random.default_rng(0)
    given = rng.standard_normal((300, 2)).astype(np.float32)
    collection.put([Entry(Item(f"i{at}", "t"), "r", row) for at, row in enumerate(given)])
    item_ids, vectors = collection.vectors()
    assert sorted(item_ids) == sorted(f"i{at}" for at in range(300))
    assert np.array_equal(vectors, given[[int(item_id[1:]) for item_id in item_ids]])


def test_an_empty_collection_answers(collection: Collection) -> None:
    assert (collection.count(), collection.revisions(), collection.get(["a"]), ids(collection, 3)) == (0, {}, [], [])
    assert collection.vectors()[0] == []


def test_everything_is_there_after_reopening_and_collections_are_apart(open_engine: Callable[[], Engine]) -> None:
    with (
        closing(open_engine()) as engine,
        closing(engine.open("items", 0)) as items,
        closing(engine.open("vectors", 2)) as vectors,
    ):
        items.put([Entry(Item("a", "A"), "r1"), Entry(Item("b", "B"), "r2")])
        vectors.put([entry("a", 1.0, 0.0)])
        items.flush()

    with closing(open_engine()) as engine, closing(engine.open("items", 0)) as items:
        assert items.revisions() == {"a": "r1", "b": "r2"}
        assert items.get(["b"]) == [Item("b", "B")]
        with closing(engine.open("vectors", 2)) as vectors:
            assert vectors.count() == 1
        engine.drop("vectors")
        engine.drop("vectors")
        with closing(engine.open("vectors", 3)) as vectors:
            assert vectors.count() == 0


def test_a_folder_has_one_opener(tmp_path: Path) -> None:
    with closing(EdgeEngine(tmp_path)), pytest.raises(FailedPrecondition, match="another decoder uses the folder"):
        EdgeEngine(tmp_path)
    EdgeEngine(tmp_path).close()


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FailedPrecondition, match="cannot be used"):
        EdgeEngine(tmp_path / "file")


def test_a_collection_whose_making_was_interrupted_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "items~partial" / "rubbish").mkdir(parents=True)
    with closing(EdgeEngine(tmp_path)) as engine, closing(engine.open("items", 2)) as collection:
        assert collection.count() == 0


def test_a_damaged_collection_is_a_typed_error_without_the_engines_words(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    with closing(EdgeEngine(tmp_path)) as engine, pytest.raises(Unavailable, match=r"^the item index failed to open"):
        engine.open("items", 2)


def test_a_disk_that_is_nearly_full_refuses_writes_and_still_reads(tmp_path: Path) -> None:
    with closing(EdgeEngine(tmp_path)) as engine, closing(engine.open("items", 2)) as collection:
        collection.put([entry("a", 1.0, 0.0)])
    with closing(EdgeEngine(tmp_path, min_free_disk=1 << 60)) as engine, closing(engine.open("items", 2)) as collection:
        with pytest.raises(ResourceExhausted, match="must stay free"):
            collection.put([entry("b", 1.0, 0.0)])
        assert ids(collection, 5) == ["a"]
        with pytest.raises(ResourceExhausted):
            engine.open("other", 2)
