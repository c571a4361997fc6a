"""The whole preparation: what is written, what the funnel says, how it fails, and what must hold of any result."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from langptune.data.dataset import SPLITS, Dataset
from langptune.data.funnel import EmptyResult, FunnelRow
from langptune.data.options import PrepareOptions, Split
from langptune.data.prepare import Prepared, prepare
from langptune.data.tokens import WordEstimate, token_counter
from langptune.domain import Interaction, Item
from langptune.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from tests.unit.data.raw_files import metadata, review, write_lines, write_world

LOOSE = PrepareOptions(history_length=2, min_interactions=1, held_out=0.0)


class CountOf:
    """Counts how often a word occurs: a tokenizer whose numbers are plain to see."""

    def __init__(self, word: str) -> None:
        self.name = word
        self._word = word

    def count(self, texts: Sequence[str]) -> list[int]:
        return [text.count(self._word) for text in texts]


def steps(funnel: Sequence[FunnelRow]) -> list[tuple[str, int, int, int, int]]:
    return [(row.step, row.users, row.items, row.interactions, row.dropped) for row in funnel]


def test_what_is_written(tmp_path: Path) -> None:
    reviews = write_lines(
        tmp_path / "reviews.jsonl.gz",
        [
            review("u", "B", 20, rating=0.5, text="Bad.<br />Very &#34;bad&#34;."),
            review("u", "A", 10, rating=5.0, text=None),
            review("u", "C", 30),
        ],
    )
    items = [
        metadata("A", title=" The  A &amp; B ", description=["x<br>y", "z"], price="None"),
        metadata("B", categories=[]),
        metadata("C"),
    ]
    write_lines(tmp_path / "meta.jsonl", [*items, metadata("D")])
    dataset = prepare(reviews, tmp_path / "meta.jsonl", tmp_path / "books", options=LOOSE).dataset
    first = Item("A", "The A & B", "x y z", ("Books", "Fiction"), 4.1, None)
    second = Item("B", "Title B", "About B", (), 4.1, 7.99)
    assert list(dataset.items) == ["A", "B", "C"]
    assert [session.history for session in Dataset.open(dataset.folder).sessions("train")] == [
        (Interaction(first, 5.0, "", 10), Interaction(second, 0.5, 'Bad. Very "bad".', 20))
    ]
    info = json.loads((tmp_path / "books" / "dataset.json").read_text())
    assert info["name"] == "books"
    assert info["counts"] == {"items": 3, "interactions": 3, "sessions": 1}
    assert info["options"]["history_length"] == 2
    assert info["inputs"]["reviews"]["file"] == "reviews.jsonl.gz"
    assert info["token_counts"]["item"] == WordEstimate.name
    assert [row["step"] for row in info["funnel"]][:2] == ["read", "item has metadata"]
    assert str(tmp_path) not in json.dumps(info)


def test_the_funnel_counts_every_step(tmp_path: Path) -> None:
    """k = 2, h = 1. Z has no metadata, Y no title; b's second A is a repetition; C has one review, so c goes too."""
    lines = [
        review("a", "A", 1),
        review("a", "B", 2),
        review("b", "A", 3),
        review("b", "B", 4),
        review("b", "A", 5),
        review("c", "C", 6),
        review("c", "A", 7),
        review("a", "Z", 8),
        review("b", "Y", 9),
        "{not json",
        review("", "A", 1),
        review("a", "B", 1, rating=None),
    ]
    reviews = write_lines(tmp_path / "reviews.jsonl", lines)
    items = write_lines(tmp_path / "meta.jsonl", [*map(metadata, "ABC"), metadata("Y", title="  "), '{"title": 5}'])
    options = PrepareOptions(history_length=1, min_interactions=2, held_out=0.0, skip_malformed=True)
    prepared = prepare(reviews, items, tmp_path / "out", options=options)
    assert steps(prepared.funnel) == [
        ("read", 3, 5, 9, 3),
        ("item has metadata", 3, 3, 7, 2),
        ("first review of an item", 3, 3, 6, 1),
        ("k-core", 2, 2, 4, 2),
        ("item text fits", 2, 2, 4, 0),
        ("prompt fits", 2, 2, 4, 0),
        ("k-core again", 2, 2, 4, 0),
        ("long enough", 2, 2, 4, 0),
        ("split first-4", 2, 2, 4, 0),
        ("sessions", 2, 2, 4, 0),
    ]
    assert prepared.funnel[0].why == "1 malformed lines, 2 without user, item, rating or time"
    assert prepared.funnel[1].why == "no metadata or no title: 3 items have both, 1 malformed lines"
    assert prepared.funnel[3].why == "users and items with fewer than 2 interactions (2 rounds)"
    assert prepared.dataset.info["funnel"][0]["dropped"] == 3


def test_long_items_take_their_users_along(tmp_path: Path) -> None:
    """D's text has three "long", the limit is two: c, who has D, goes, and with it every interaction of c."""
    reviews, _ = write_world(tmp_path, {"a": "ABC", "b": "ABC", "c": "ABCD"})
    items = write_lines(tmp_path / "meta.jsonl", [*map(metadata, "ABC"), metadata("D", title="long long long")])
    options = PrepareOptions(history_length=2, min_interactions=1, held_out=0.0, item_tokens=2)
    prepared = prepare(reviews, items, tmp_path / "out", options=options, embedder_tokens=CountOf("long"))
    row = next(row for row in prepared.funnel if row.step == "item text fits")
    assert (row.users, row.items, row.dropped) == (2, 3, 4)
    assert row.why == "1 items over 2 embedder tokens, 1 users have one"


def test_prompts_over_the_limit_drop_the_user_and_truncate_keeps_it(tmp_path: Path) -> None:
    """The limit is three "wordy" in a prompt; b's second review, which is in its history, says it four times."""
    reviews = write_lines(
        tmp_path / "reviews.jsonl",
        [
            *(review("a", item, at) for at, item in enumerate("ABC")),
            review("b", "A", 0),
            review("b", "B", 1, text="wordy wordy wordy wordy"),
            review("b", "C", 2),
        ],
    )
    items = write_lines(tmp_path / "meta.jsonl", map(metadata, "ABC"))
    limits = {"history_length": 2, "min_interactions": 1, "held_out": 0.0, "prompt_tokens": 3}
    dropped = prepare(reviews, items, tmp_path / "one", options=PrepareOptions(**limits), encoder_tokens=CountOf("wordy"))
    assert [session.user_id for session in dropped.dataset.sessions("train")] == ["a"]
    assert next(row for row in dropped.funnel if row.step == "prompt fits").dropped == 3
    kept = prepare(
        reviews,
        items,
        tmp_path / "two",
        options=PrepareOptions(**limits, over_length="truncate"),
        encoder_tokens=CountOf("wordy"),
    )
    assert [session.user_id for session in kept.dataset.sessions("train")] == ["a", "b"]
    assert "1 too long, kept, to be truncated" in kept.funnel[-1].why


def test_a_model_tokenizer_counts_beyond_the_truncation_of_its_file(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for source in (tmp_path, tmp_path / "tokenizer.json"):
        counter = token_counter(str(source), "embedder_tokenizer")
        assert counter.count(["a b c d e", "a"]) == [5, 1]
        assert counter.name.startswith("tokenizer tokenizer.json, SHA-256 ")


def test_a_tokenizer_that_cannot_be_read_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    for source in (tmp_path, tmp_path / "tokenizer.json"):
        with pytest.raises(InvalidArgument) as error:
            token_counter(str(source), "encoder_tokenizer")
        assert error.value.field == "encoder_tokenizer"


def test_equal_input_gives_equal_output_plain_or_gzip(tmp_path: Path) -> None:
    lines = [review(f"u{user}", item, user + at) for user in range(20) for at, item in enumerate("ABCDEF")]
    items = write_lines(tmp_path / "meta.jsonl", map(metadata, "ABCDEF"))
    options = PrepareOptions(Split.LEAVE_LAST_OUT, min_interactions=2)
    plain = write_lines(tmp_path / "reviews.jsonl", lines)
    one, two, other = (
        prepare(reviews, items, tmp_path / name, options=options, name="same").dataset
        for name, reviews in (("1", plain), ("2", plain), ("3", write_lines(tmp_path / "reviews.jsonl.gz", lines)))
    )
    assert (one.folder / "dataset.json").read_bytes() == (two.folder / "dataset.json").read_bytes()
    assert one.content_hash == two.content_hash == other.content_hash
    seeded = prepare(plain, items, tmp_path / "4", options=replace(options, seed=3)).dataset
    assert seeded.content_hash != one.content_hash


def test_an_empty_result_says_where_and_what_to_change(tmp_path: Path) -> None:
    """Every item has two reviews: the 5-core is empty, the 2-core is the largest that is not."""
    files = write_world(tmp_path, {"a": "ABCDE", "b": "ABCDE"})
    with pytest.raises(
        EmptyResult, match=r"nothing is left from 2 users, 5 items .* after step 'k-core'.*--min-interactions \(2 is the"
    ) as error:
        prepare(*files, tmp_path / "out")
    assert steps(error.value.funnel)[-1] == ("k-core", 0, 0, 0, 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["meta.jsonl", "reviews.jsonl"]


@pytest.mark.parametrize(
    ("options", "step", "advice"),
    [
        ({"item_tokens": 1}, "item text fits", "--item-tokens"),
        ({"prompt_tokens": 1}, "prompt fits", "--prompt-tokens"),
        ({"history_length": 5}, "long enough", "--history-length"),
        ({"held_out": 0.9, "split": Split.GLOBAL_TIME}, "split global-time", "--held-out"),
        ({"held_out": 0.5, "split": Split.GLOBAL_TIME}, "sessions", "--history-length"),
        ({"min_interactions": 10**9}, "k-core", "--min-interactions"),
    ],
)
def test_each_step_that_can_empty_the_result_has_advice(
    tmp_path: Path, options: dict[str, object], step: str, advice: str
) -> None:
    files = write_world(tmp_path, {"a": "ABCDE", "b": "ABCDE"})
    with pytest.raises(EmptyResult, match=advice) as error:
        prepare(*files, tmp_path / "out", options=PrepareOptions(**{"min_interactions": 1, **options}))  # type: ignore[arg-type]
    assert error.value.funnel[-1].step == step


def test_empty_files_are_an_empty_result(tmp_path: Path) -> None:
    reviews, items = write_lines(tmp_path / "reviews.jsonl", []), write_lines(tmp_path / "meta.jsonl", [])
    with pytest.raises(EmptyResult, match="after step 'read'"):
        prepare(reviews, items, tmp_path / "out")


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    good = write_world(tmp_path, {"a": "ABC"})
    before = prepare(*good, tmp_path / "out", options=LOOSE).dataset
    with pytest.raises(AlreadyExists):
        prepare(*good, tmp_path / "out", options=LOOSE)
    bad = write_lines(tmp_path / "bad.jsonl", [review("a", "A", 1), "{"])
    with pytest.raises(InvalidArgument, match=r"bad\.jsonl, line 2"):
        prepare(bad, good[1], tmp_path / "out", options=LOOSE, overwrite=True)
    assert Dataset.open(tmp_path / "out").content_hash == before.content_hash
    (tmp_path / "more").mkdir()
    files = write_world(tmp_path / "more", {"a": "ABC", "b": "CBA"})
    prepare(*files, tmp_path / "out", options=LOOSE, overwrite=True)
    assert Dataset.open(tmp_path / "out").info["counts"]["sessions"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.jsonl", "meta.jsonl", "more", "out", "reviews.jsonl"]


def test_a_place_that_cannot_be_written_is_a_typed_error(tmp_path: Path) -> None:
    files = write_world(tmp_path, {"a": "ABC"})
    (tmp_path / "file").write_text("")
    with pytest.raises(FailedPrecondition, match="cannot be written"):
        prepare(*files, tmp_path / "file" / "out", options=LOOSE)


worlds = st.lists(st.tuples(st.text("ABCDEFGH", min_size=1, max_size=10), st.integers(0, 12)), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    worlds,
    st.sampled_from(list(Split)),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.3, 0.5]),
    st.integers(1, 2),
)
def test_what_must_hold_of_any_result(
    world: list[tuple[str, int]], split: Split, k: int, length: int, held_out: float, windows: int
) -> None:
    options = PrepareOptions(split, history_length=length, min_interactions=k, held_out=held_out, train_windows=windows)
    histories = {f"u{nth}": items for nth, (items, _) in enumerate(world)}
    with tempfile.TemporaryDirectory() as folder:
        files = write_world(Path(folder), histories, start={f"u{nth}": start for nth, (_, start) in enumerate(world)})
        try:
            prepared = prepare(*files, Path(folder) / "out", options=options)
        except EmptyResult as error:
            check_funnel(error.funnel)
        else:
            check_funnel(prepared.funnel)
            check_sessions(prepared, options)


def check_funnel(funnel: Sequence[FunnelRow]) -> None:
    for before, after in pairwise(funnel):
        assert before.interactions - after.dropped == after.interactions
        assert before.users >= after.users
        assert before.items >= after.items


def check_sessions(prepared: Prepared, options: PrepareOptions) -> None:
    dataset = prepared.dataset
    times = {(user, entry.item.item_id): (entry.time_ms, row) for row, (user, entry) in enumerate(dataset.interactions)}
    assert len(times) == len(dataset.interactions)
    by_split = {split: dataset.sessions(split) for split in SPLITS}
    for session in chain(*by_split.values()):
        items = [entry.item.item_id for entry in session.history]
        (target,) = session.target_item_ids
        assert len(items) == options.history_length
        assert len({*items, target}) == options.history_length + 1
        order = [times[session.user_id, item] for item in (*items, target)]
        assert order == sorted(order)
    held = by_split["validation"] + by_split["test"]
    held_users = [session.user_id for session in held]
    assert len(set(held_users)) == len(held_users)
    train_targets = [times[session.user_id, session.target_item_ids[0]][0] for session in by_split["train"]]
    held_targets = [times[session.user_id, session.target_item_ids[0]][0] for session in held]
    if options.split == Split.GLOBAL_TIME:
        assert max(train_targets, default=-1) < min(held_targets, default=10**9)
    else:
        assert not set(held_users) & {session.user_id for session in by_split["train"]}
    if options.split == Split.FIRST_4:
        assert options.train_windows > 1 or max(train_targets, default=-1) <= min(held_targets, default=10**9)
        warm = {entry.item.item_id for user, entry in dataset.interactions if user not in held_users}
        assert {item for session in held for item in session.target_item_ids} <= warm
    if options.split == Split.LEAVE_LAST_OUT and options.min_interactions > options.history_length:
        users = [user for user, _ in dataset.interactions]
        items = [entry.item.item_id for _, entry in dataset.interactions]
        assert all(codes.count(code) >= options.min_interactions for codes in (users, items) for code in set(codes))
