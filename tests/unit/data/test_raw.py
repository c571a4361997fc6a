"""Reading raw files: formats, line numbers, and what counts as malformed."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from langptune.data import raw
from langptune.data.raw import Metadata, RawFile, Review
from langptune.errors import FailedPrecondition, InvalidArgument, NotFound
from tests.unit.data.raw_files import metadata, review, write_lines


def reviews_file(path: Path, skip_malformed: bool = False) -> RawFile[Review]:
    return RawFile(path, Review, "reviews", skip_malformed=skip_malformed, progress=lambda *_: None)


def read_all(file: RawFile[Review]) -> tuple[list[int], list[str | None], int]:
    batches = list(file.batches("read"))
    lines = [line for batch in batches for line in batch.lines.tolist()]
    return lines, [record.user_id for batch in batches for record in batch.records], sum(batch.malformed for batch in batches)


@pytest.mark.parametrize("name", ["reviews.jsonl", "reviews.jsonl.gz"])
@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_lines_are_numbered_the_same_whatever_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunk_bytes: int
) -> None:
    monkeypatch.setattr(raw, "CHUNK_BYTES", chunk_bytes)
    path = write_lines(tmp_path / name, [review("a", "i", 1), "", "  ", review("b", "i", 2), review("c", "i", 3)])
    assert read_all(reviews_file(path)) == ([1, 4, 5], ["a", "b", "c"], 0)
    assert [record.user_id for record in reviews_file(path).records_at("read", np.array([1, 5]))] == ["a", "c"]


def test_gzip_is_known_by_its_bytes_and_the_last_line_needs_no_newline(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_bytes(gzip.compress(json.dumps(review("a", "i", 1)).encode()))
    assert read_all(reviews_file(path)) == ([1], ["a"], 0)


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    assert read_all(reviews_file(write_lines(tmp_path / "reviews.jsonl", []))) == ([], [], 0)


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ('{"user_id": "u", "parent_asin"', "truncated"),
        ("[1, 2]", "Expected `object`"),
        (json.dumps(review("u", "i", 1, rating=float("nan"))), "NaN is no number"),
        (json.dumps(review("u", "i", 1, rating=5.5)), "<= 5.0 - at `$.rating`"),
        (json.dumps(review("u", "i", 1, rating=-0.5)), ">= 0.0 - at `$.rating`"),
        (json.dumps(review("u", "i", 1, rating="five")), "at `$.rating`"),
        (json.dumps(review("u", "i", -1)), ">= 0 - at `$.timestamp`"),
        (json.dumps(review("u", "i", 10**30)), "at `$.timestamp`"),
        (json.dumps(review(7, "i", 1)), "at `$.user_id`"),  # type: ignore[arg-type]
    ],
)
def test_a_malformed_line_is_named_or_counted(tmp_path: Path, bad: str, problem: str) -> None:
    path = write_lines(tmp_path / "reviews.jsonl", [review("a", "i", 1), "", bad, review("b", "i", 1)])
    with pytest.raises(InvalidArgument) as error:
        read_all(reviews_file(path))
    assert error.value.field == "reviews"
    assert f"{path}, line 3: " in error.value.message
    assert problem in error.value.message
    assert read_all(reviews_file(path, skip_malformed=True)) == ([1, 4], ["a", "b"], 1)


def test_bytes_that_are_no_utf8_are_malformed(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_bytes(b'{"user_id": "a"}\n{"user_id": "\xff"}\n')
    with pytest.raises(InvalidArgument, match="line 2"):
        read_all(reviews_file(path))


def test_two_records_on_one_line_are_malformed(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "reviews.jsonl", ['{"user_id": "a"}{"user_id": "b"}'])
    with pytest.raises(InvalidArgument, match="line 1"):
        read_all(reviews_file(path))


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "CHUNK_BYTES", 64)
    monkeypatch.setattr(raw, "MAX_LINE_BYTES", 1 << 20)
    path = write_lines(tmp_path / "reviews.jsonl", [review("a", "i", 1), "x" * (2 << 20)])
    with pytest.raises(InvalidArgument, match="line 2: is longer than 1 MiB"):
        read_all(reviews_file(path))


def test_damaged_gzip_names_the_file(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "reviews.jsonl.gz", [review("a", "i", nth) for nth in range(100)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidArgument, match=r"reviews\.jsonl\.gz.*damaged"):
        read_all(reviews_file(path))


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="reviews file"):
        reviews_file(tmp_path / "none.jsonl")
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        reviews_file(tmp_path)


def test_any_field_of_metadata_may_be_null_or_empty(tmp_path: Path) -> None:
    empty = {"parent_asin": "i", "title": None, "average_rating": None, "description": [], "categories": None, "price": ""}
    path = write_lines(tmp_path / "meta.jsonl", [empty, metadata("j", description="one", price="None"), {}])
    file = RawFile(path, Metadata, "metadata", skip_malformed=False, progress=lambda *_: None)
    records = [record for batch in file.batches("read") for record in batch.records]
    assert [record.title for record in records] == [None, "Title j", None]
