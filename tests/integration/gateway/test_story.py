"""What a user meets: popularity, then the history, then a profile, an edit that moves the ranking, and the way back."""

import asyncio
import sys
import textwrap
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from redis.asyncio import Redis

from langptune.client import DiffKind, Item, LangPTune, NewInteraction, ProfileOrigin, RankedItem, RankingBasis, SentenceMark
from langptune.errors import Aborted, InvalidArgument, LangPTuneError, NotFound
from langptune.rpc import open_channel
from langptune.text import sentences
from langptune.v1 import common_pb2, gateway_pb2, gateway_pb2_grpc
from langptune.weights import ReleaseRegistry, Why
from tests.integration.gateway.world import World


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def imported(world: World) -> None:
    """The catalogue, and the histories of all users."""
    items = list(world.dataset.items.values())
    bad = Item("bad id", "a title")
    told: list[int] = []
    async with LangPTune(world.gateway.address) as lp:
        report = await lp.import_items([*items, bad], progress=told.append)
        assert (report.imported + report.unchanged, report.rejected, report.catalogue_size) == (120, 1, 120)
        assert [(each.index, each.id, each.field) for each in report.rejections] == [(120, "bad id", "item_id")]
        assert told[-1] == 121

        async def pairs() -> AsyncIterator[tuple[str, NewInteraction]]:
            for user_id, entry in world.dataset.interactions:
                yield user_id, NewInteraction(entry.item.item_id, entry.rating, entry.review, entry.time_ms)
            yield "u-bad", NewInteraction("no-such-item", 4.0)
            yield "u-bad", NewInteraction(items[0].item_id, float("nan"))
            yield "no user", NewInteraction(items[0].item_id, 4.0)

        count = len(world.dataset.interactions)
        first = await lp.import_interactions(pairs())
        assert (first.recorded, first.unchanged, first.rejected) == (count, 0, 3)
        assert {(each.index, each.field) for each in first.rejections} == {
            (count, "item.item_id"),
            (count + 1, "rating"),
            (count + 2, "user_id"),
        }
        again = await lp.import_interactions(world.dataset.interactions)
        assert (again.recorded, again.unchanged) == (0, count)


async def test_from_popularity_to_profile_and_back(lp: LangPTune, world: World) -> None:
    newcomer = await lp.recommend("newcomer", k=5)
    assert newcomer.basis == RankingBasis.POPULARITY
    assert "neither a profile nor a history" in newcomer.basis_reason
    shares = [place.score for place in newcomer.items]
    assert shares == sorted(shares, reverse=True)
    assert 0.0 < shares[0] <= 1.0
    assert [place.position for place in newcomer.items] == [1, 2, 3, 4, 5]

    chosen = newcomer.items[0].item
    assert chosen == world.dataset.items[chosen.item_id]
    now = time.time_ns() // 1_000_000
    recorded = await lp.record_interactions("newcomer", [NewInteraction(chosen.item_id, 5.0, "Loved it.", now)])
    assert (recorded.recorded, recorded.unchanged, recorded.history_size) == (1, 0, 1)
    again = await lp.record_interactions("newcomer", [NewInteraction(chosen.item_id, 5.0, "Loved it.", now)])
    assert (again.recorded, again.unchanged, again.history_size) == (0, 1, 1)
    by_history = await lp.recommend("newcomer")
    assert by_history.basis == RankingBasis.HISTORY
    assert len(by_history.items) == 10
    assert chosen.item_id not in {place.item.item_id for place in by_history.items}

    written = await lp.refresh_profile("newcomer", seed=3)
    assert (written.revision, written.origin, written.interactions) == (1, ProfileOrigin.GENERATED, 1)
    assert written.versions.release_id == world.release.release_id
    assert written.versions.encoder_version == world.release.encoder_version
    by_profile = await lp.recommend("newcomer", k=20)
    assert (by_profile.basis, by_profile.basis_reason, by_profile.profile_revision) == (RankingBasis.PROFILE, "", 1)
    assert by_profile.versions == written.versions

    explained = await lp.recommend("newcomer", k=20, explain=True)
    assert (_ids(explained.items), by_profile.reasons) == (_ids(by_profile.items), ())
    assert len(explained.reasons) == 20
    for reason in explained.reasons:
        assert (reason.sentence in sentences(written.text)) if reason.sentence else reason.contribution == 0
    assert (await lp.recommend("nobody", explain=True)).reasons == ()

    edited = await lp.update_profile("newcomer", "The user likes nothing that was said above.\r\n", etag=written.etag)
    assert (edited.text, edited.origin) == ("The user likes nothing that was said above.", ProfileOrigin.EDITED)
    after = await lp.recommend("newcomer", k=20)
    assert after.profile_revision == 2
    assert _ids(after.items) != _ids(by_profile.items)

    restored = await lp.restore_profile_revision("newcomer", 1, etag=edited.etag)
    assert (restored.revision, restored.text, restored.origin) == (3, written.text, ProfileOrigin.RESTORED)
    assert _ids((await lp.recommend("newcomer", k=20)).items) == _ids(by_profile.items)
    line = [revision async for revision in lp.list_profile_revisions("newcomer", page_size=2)]
    assert line == [restored, edited, written]
    assert await lp.get_profile("newcomer") == restored


async def test_an_edit_is_not_overwritten_unasked(lp: LangPTune, world: World) -> None:
    user = world.dataset.interactions[0][0]
    edited = await lp.update_profile(user, "My own words.")
    assert await lp.update_profile(user, "My own words.") == edited, "sent again: the first answer may have been lost"
    assert await lp.refresh_profile(user, seed=1) == edited
    page = await lp.get_profile_page(user)
    assert page.profile == edited
    assert page.suggestion is not None
    assert page.suggestion.versions.release_id == world.release.release_id
    assert page.suggestion.interactions > 0
    accepted = await lp.accept_profile_suggestion(user, etag=edited.etag)
    assert (accepted.revision, accepted.text, accepted.origin) == (2, page.suggestion.text, ProfileOrigin.SUGGESTED)
    assert (await lp.get_profile_page(user)).suggestion is None
    again = await lp.update_profile(user, "My own words again.", etag=accepted.etag)
    await lp.refresh_profile(user, seed=1)
    await lp.dismiss_profile_suggestion(user)
    assert (await lp.get_profile_page(user)).suggestion is None
    written = await lp.refresh_profile(user, overwrite_edited=True, seed=1)
    assert (written.revision, written.origin, written.text) == (again.revision + 1, ProfileOrigin.GENERATED, page.suggestion.text)


async def test_marked_sentences_are_heeded_by_the_next_refresh(lp: LangPTune, world: World) -> None:
    user = next(user for user, _ in reversed(world.dataset.interactions))
    written = await lp.refresh_profile(user, seed=4)
    first, second, *_ = sentences(written.text)
    left = await lp.mark_profile_sentence(user, first, SentenceMark.NOT_TRUE, etag=written.etag)
    assert first not in left.text
    await lp.mark_profile_sentence(user, second, SentenceMark.PINNED, etag=left.etag)
    assert (await lp.get_profile_page(user)).marks == {first: SentenceMark.NOT_TRUE, second: SentenceMark.PINNED}
    same_words = await lp.refresh_profile(user, seed=4)
    assert first not in same_words.text, "the encoder wrote it again, and it was left out"
    other_words = await lp.refresh_profile(user, seed=5)
    assert other_words.text.startswith(second)
    with pytest.raises(InvalidArgument, match="sentence"):
        await lp.mark_profile_sentence(user, "No such sentence.", SentenceMark.PINNED, etag=other_words.etag)
    difference = await lp.diff_profile_revisions(user, written.revision, other_words.revision)
    assert "".join(part.text for part in difference if part.kind is not DiffKind.REMOVED) == other_words.text


async def test_a_preview_is_what_an_edit_then_gives(lp: LangPTune, world: World) -> None:
    """Every item's two places are held against the whole rankings before and after the edit."""
    user = world.dataset.interactions[5][0]
    written = await lp.refresh_profile(user, seed=2)
    before = {place.item.item_id: place.position for place in (await lp.recommend(user, k=100)).items}
    text = "The user enjoys western films. They like desert settings."
    preview = await lp.preview(user, text, k=10)
    assert (preview.basis, preview.profile_revision) == (RankingBasis.PROFILE, written.revision)
    assert await lp.get_profile(user) == written, "nothing is stored"
    await lp.update_profile(user, text, etag=written.etag)
    after = {place.item.item_id: place.position for place in (await lp.recommend(user, k=100)).items}
    assert [place.item.item_id for place in preview.items] == list(after)[:10]
    assert [place.position for place in preview.items] == list(range(1, 11))
    for place in (*preview.items, *preview.leaving):
        assert after.get(place.item.item_id, place.position) == place.position
        assert before.get(place.item.item_id, place.previous_position) == place.previous_position
    gone = set(list(before)[:10]) - set(list(after)[:10])
    assert {place.item.item_id for place in preview.leaving} == gone
    assert gone, "an edit that moves nothing shows nothing"


async def test_a_preview_without_a_profile(lp: LangPTune, world: World) -> None:
    nobody = await lp.preview("previewer", "Likes trains.", k=5)
    assert (nobody.basis, nobody.leaving) == (RankingBasis.POPULARITY, ())
    assert [place.previous_position for place in nobody.items] == [0] * 5
    someone = await lp.preview(world.dataset.interactions[9][0], "Likes trains.", k=5)
    assert someone.basis == RankingBasis.HISTORY
    assert all(place.previous_position >= 1 for place in someone.items)
    with pytest.raises(InvalidArgument, match="text"):
        await lp.preview("previewer", " ")
    with pytest.raises(InvalidArgument, match="k: must be 1 to 100"):
        await lp.preview("previewer", "Likes trains.", k=101)


async def test_a_history_comes_back_whole_and_newest_first(lp: LangPTune, world: World) -> None:
    user = world.dataset.interactions[-1][0]
    expected = sorted(
        (entry for each, entry in world.dataset.interactions if each == user), key=lambda e: (-e.time_ms, e.item.item_id)
    )
    found = [entry async for entry in lp.list_interactions(user, page_size=3)]
    assert sorted(found, key=lambda e: (-e.time_ms, e.item.item_id)) == expected
    assert [entry.time_ms for entry in found] == [entry.time_ms for entry in expected]
    assert [entry async for entry in lp.list_interactions("nobody")] == []


async def test_the_catalogue_by_pages(lp: LangPTune, world: World) -> None:
    found = {item.item_id: item async for item in lp.list_items(page_size=50)}
    assert world.dataset.items.items() <= found.items()
    first = next(iter(world.dataset.items.values()))
    assert await lp.get_item(first.item_id) == first
    with pytest.raises(NotFound, match="item 'nothing'"):
        await lp.get_item("nothing")
    changed = await lp.import_items([replace(first, price=1.25)])
    assert (changed.imported, changed.unchanged) == (1, 0)
    assert (await lp.get_item(first.item_id)).price == 1.25
    await lp.import_items([first])


async def test_of_ten_updates_at_once_exactly_one_wins(lp: LangPTune) -> None:
    first = await lp.update_profile("racer", "start")
    updates = [lp.update_profile("racer", f"text {number}", etag=first.etag) for number in range(10)]
    outcomes = await asyncio.gather(*updates, return_exceptions=True)
    current = await lp.get_profile("racer")
    assert current.revision == 2
    lost = [outcome for outcome in outcomes if isinstance(outcome, Aborted)]
    assert len(lost) == 9
    assert {error.etag for error in lost} == {current.etag}


async def test_all_or_nothing(lp: LangPTune, world: World) -> None:
    good = next(iter(world.dataset.items))
    with pytest.raises(NotFound, match="item 'no-such-item'"):
        await lp.record_interactions("careful", [NewInteraction(good, 4.0), NewInteraction("no-such-item", 4.0)])
    with pytest.raises(InvalidArgument) as caught:
        await lp.record_interactions("careful", [NewInteraction(good, 4.0), NewInteraction(good, float("nan"))])
    assert caught.value.field == "interactions[1].rating"
    for entries in ([], [NewInteraction(good, 4.0)] * 1_001):
        with pytest.raises(InvalidArgument, match="interactions: must be 1 to 1,000"):
            await lp.record_interactions("careful", entries)
    assert [entry async for entry in lp.list_interactions("careful")] == []
    assert (await lp.recommend("careful")).basis == RankingBasis.POPULARITY


async def test_bad_input_is_named(lp: LangPTune) -> None:
    for k in (-1, 101, 10**9):
        with pytest.raises(InvalidArgument, match="k: must be 1 to 100"):
            await lp.recommend("u1", k=k)
    assert len((await lp.recommend("someone", k=0)).items) == 10
    for user_id in ("", "two words", "x" * 129):
        for call in (
            lp.recommend(user_id),
            lp.get_profile(user_id),
            lp.refresh_profile(user_id),
            lp.update_profile(user_id, "a"),
        ):
            with pytest.raises(InvalidArgument, match="user_id"):
                await call
    for text in ("", " \n", "\x07", "x" * (1 << 20)):
        with pytest.raises(InvalidArgument) as caught:
            await lp.update_profile("unwritten", text)
        assert caught.value.field == "text"
    with pytest.raises(NotFound, match="profile 'unwritten'"):
        await lp.get_profile("unwritten")
    with pytest.raises(NotFound, match="history 'unwritten'"):
        await lp.refresh_profile("unwritten")
    with pytest.raises(LangPTuneError):
        await lp.update_profile("unwritten", "x" * (20 << 20))


async def test_a_time_that_is_none_is_refused(world: World) -> None:
    """Values that no calendar has, which only a client of another kind can send."""
    channel = open_channel(world.gateway.address)
    stub = gateway_pb2_grpc.InteractionServiceStub(channel)
    first = next(iter(world.dataset.items))
    stamps = (Timestamp(seconds=10**18), Timestamp(seconds=-(10**17)), Timestamp(nanos=-5), Timestamp(seconds=-1))
    entries = [common_pb2.Interaction(item=common_pb2.Item(item_id=first), rating=4.0, time=stamp) for stamp in stamps]
    for entry in entries:
        with pytest.raises(InvalidArgument, match=r"interactions\[0\].time"):
            await stub.RecordInteractions(gateway_pb2.RecordInteractionsRequest(user_id="timeless", interactions=[entry]))

    async def stream() -> AsyncIterator[gateway_pb2.ImportInteractionsRequest]:
        yield gateway_pb2.ImportInteractionsRequest(user_id="timeless", interactions=entries)

    report = await stub.ImportInteractions(stream())
    assert [rejection.field for rejection in report.rejections] == ["time"] * len(entries)
    await channel.close()


async def test_long_texts_come_in_pages_that_fit_a_message(lp: LangPTune) -> None:
    """60 reviews and an item, 400,000 bytes a pair: over the 16 MiB of a message, so a page ends early and none is lost."""
    await lp.import_items([Item("long-item", "a title", "é" * 100_000)])
    entries = [NewInteraction("long-item", 4.0, "ü" * 100_000, 1_000 + number) for number in range(60)]
    for start in range(0, 60, 10):
        await lp.record_interactions("talker", entries[start : start + 10])
    found = [entry.time_ms async for entry in lp.list_interactions("talker", page_size=1_000)]
    assert found == [entry.time_ms for entry in reversed(entries)]
    assert (await lp.recommend("talker")).basis == RankingBasis.HISTORY


async def test_the_example_in_the_documentation_runs(world: World) -> None:
    example = textwrap.dedent((LangPTune.__doc__ or "").partition("\n\n")[2]).replace("localhost:50051", world.gateway.address)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", example, stdout=PIPE, stderr=STDOUT)
    told, _ = await process.communicate()
    assert process.returncode == 0, told.decode()
    assert len(told.splitlines()) == 10


async def test_real_world_user_ids_are_taken(lp: LangPTune) -> None:
    for user_id in ("AE222BBOVZIF42YOOPNBXL4UUMYA", "196", "user:1.b-2_c"):
        assert (await lp.update_profile(user_id, "Likes trains.")).user_id == user_id


async def test_a_publish_is_followed_at_once(lp: LangPTune, world: World) -> None:
    await lp.update_profile("follower", "Likes trains.")
    async with Redis.from_url(world.redis_url) as client:
        registry = ReleaseRegistry(client)
        newer = await registry.create(world.release.encoder_version, world.release.decoder_version)
        for release_id in (newer.release_id, world.release.release_id):
            await registry.set_live(release_id, expected=None, why=Why(reason="test"))
            assert (await lp.recommend("follower")).versions.release_id == release_id


def _ids(places: Iterable[RankedItem]) -> list[str]:
    return [place.item.item_id for place in places]
