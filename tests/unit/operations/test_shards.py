"""Shards share out every row once, whatever the files and row groups; a mark is kept, and is of one piece of work."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langptune.errors import FailedPrecondition, InvalidArgument, NotFound
from langptune.operations.shards import Mark, Progress, Shard, Table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows 0 to 24 in two files, of row groups of 3 and of 10."""
    folder = tmp_path_factory.mktemp("table")
    for name, rows, group in (("a", range(7), 3), ("b", range(7, 25), 10)):
        table = pa.table({"user_id": [f"u{row}" for row in rows], "more": [0] * len(rows)})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=group)
    return folder


@given(rows=st.integers(0, 1_000), count=st.integers(1, 50))
def test_shards_are_a_partition_of_about_equal_parts(rows: int, count: int) -> None:
    spans = [Shard(index, count).span(rows) for index in range(count)]
    assert [row for span in spans for row in span] == list(range(rows))
    assert max(map(len, spans)) - min(map(len, spans)) <= 1


@given(start=st.integers(0, 25), length=st.integers(0, 25))
def test_a_span_is_read_whole_and_in_order(folder: Path, start: int, length: int) -> None:
    table = Table(folder, ["user_id"])
    assert table.rows == 25
    span = range(start, min(25, start + length))
    assert list(table.read(span)) == [{"user_id": f"u{row}"} for row in span]


def test_a_table_that_is_none_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Table(tmp_path, ["user_id"])
    with pytest.raises(InvalidArgument, match=r"a.parquet has no column item_id"):
        Table(folder, ["item_id"])


def test_a_pod_of_an_indexed_job_knows_its_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "3")
    assert Shard.parse("/16") == Shard(3, 16)
    assert str(Shard.parse("0/2")) == "0/2"
    monkeypatch.delenv("JOB_COMPLETION_INDEX")
    for wrong in ("/16", "2/2", "1", "a/b", "-1/2", ""):
        with pytest.raises(InvalidArgument):
            Shard.parse(wrong)


def test_a_mark_is_found_by_the_next_attempt_and_by_no_other_work(tmp_path: Path) -> None:
    first = Progress(tmp_path / "marks", Shard(1, 4))
    mark = first.read("users.parquet", 100)
    assert (mark.done, mark.counts) == (0, {})
    first.write(mark.advanced(10, ["written"] * 9 + ["refused"]).advanced(5, ["written"]))
    again = Progress(tmp_path / "marks", Shard(1, 4)).read("users.parquet", 100)
    assert again == Mark("users.parquet", 100, 15, {"written": 10, "refused": 1})
    assert Progress(tmp_path / "marks", Shard(2, 4)).read("users.parquet", 100).done == 0
    with pytest.raises(FailedPrecondition, match="other work"):
        Progress(tmp_path / "marks", Shard(1, 4)).read("users.parquet", 101)
