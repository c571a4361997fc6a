"""What a user steers by beside the text: evidence for each sentence, phrases to avoid, filters."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from langptune.cli.jsonl import parse_item, read_lines
from langptune.client import AnyOf, Between, EvidenceBasis, ItemFilter, LangPTune, NewInteraction, RankingBasis
from langptune.data.dataset import write_dataset
from langptune.domain import Item
from langptune.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from langptune.rpc import open_channel
from langptune.text import sentences
from langptune.v1 import decoder_pb2, decoder_pb2_grpc
from tests.integration.gateway.world import World


def _histories(world: World) -> dict[str, list[NewInteraction]]:
    """Histories of the sample world, under names that no other test uses."""
    histories: dict[str, list[NewInteraction]] = {}
    for user_id, entry in world.dataset.interactions:
        said = NewInteraction(entry.item.item_id, entry.rating, entry.review, entry.time_ms)
        histories.setdefault(f"steer-{user_id}", []).append(said)
    return histories


@pytest.fixture(scope="module", autouse=True)
def users(world: World) -> list[str]:
    """Five users with histories."""
    histories = dict(list(_histories(world).items())[:5])

    async def fill() -> None:
        async with LangPTune(world.gateway.address) as lp:
            await lp.import_items(world.dataset.items.values())
            await lp.import_interactions((user, entry) for user, entries in histories.items() for entry in entries)

    asyncio.run(fill())
    return list(histories)


async def test_evidence_is_of_what_the_writer_saw(lp: LangPTune, world: World, users: list[str]) -> None:
    user, other = users[0], next(reversed(world.dataset.items))
    seen = {entry.item_id for entry in _histories(world)[user]}
    written = await lp.refresh_profile(user, seed=1)
    found = await lp.explain_profile(user)
    assert (found.revision, found.basis, found.interactions) == (1, EvidenceBasis.WRITTEN_FROM, written.interactions)
    assert found.versions == written.versions
    assert [each.sentence for each in found.sentences] == sentences(written.text)
    supported = 0
    for each in found.sentences:
        scores = [support.score for support in each.support]
        assert scores == sorted(scores, reverse=True)
        assert all(score >= found.threshold for score in scores)
        assert {support.interaction.item.item_id for support in each.support} <= seen
        nearest = -9.0 if each.nearest_score is None else each.nearest_score  # nothing fits a dislike where all is liked
        assert (nearest >= found.threshold) == bool(each.support)
        supported += bool(each.support)
    assert supported, "a profile that nothing supports says nothing of the evidence"
    await lp.record_interactions(user, [NewInteraction(other, 1.0, "Hated all of it.")])
    assert await lp.explain_profile(user) == found, "what came later was not seen by the writer"


async def test_a_users_own_words_are_held_against_the_history_at_the_time(lp: LangPTune, users: list[str]) -> None:
    user = users[1]
    edited = await lp.update_profile(user, "My own words. They are two.")
    found = await lp.explain_profile(user)
    assert (found.basis, found.interactions, found.missing_interactions) == (EvidenceBasis.HISTORY, 4, 0)
    written = await lp.refresh_profile(user, overwrite_edited=True, seed=2)
    restored = await lp.restore_profile_revision(user, edited.revision, etag=written.etag)
    assert (await lp.explain_profile(user)).basis == EvidenceBasis.HISTORY
    assert (await lp.explain_profile(user, written.revision)).basis == EvidenceBasis.WRITTEN_FROM
    with pytest.raises(NotFound, match="profile revision"):
        await lp.explain_profile(user, restored.revision + 1)


async def test_a_profile_as_of_a_moment_knows_nothing_later(lp: LangPTune, world: World) -> None:
    """Four interactions in the order of their times; as of the second, two are read, whatever was recorded first."""
    entries = list(_histories(world).values())[7]
    await lp.record_interactions("steer-then", entries[::-1])
    moment = entries[1].time_ms
    assert moment is not None
    written = await lp.refresh_profile("steer-then", seed=3, as_of_ms=moment)
    assert written.interactions == 2
    found = await lp.explain_profile("steer-then")
    assert found.interactions == 2
    assert {support.interaction.item.item_id for each in found.sentences for support in each.support} <= {
        entry.item_id for entry in entries[:2]
    }
    with pytest.raises(NotFound, match="history 'steer-then'"):
        await lp.refresh_profile("steer-then", as_of_ms=min(entry.time_ms or 0 for entry in entries) - 1)
    assert (await lp.refresh_profile("steer-then", seed=3)).interactions == 4


async def test_a_named_request_is_recorded_once(lp: LangPTune, world: World) -> None:
    """The caller leaves the time out, so the gateway's clock gives each call another one."""
    item = next(iter(world.dataset.items))
    first = await lp.record_interactions("steer-retry", [NewInteraction(item, 4.0)], request_id="r-1")
    again = await lp.record_interactions("steer-retry", [NewInteraction(item, 4.0)], request_id="r-1")
    assert (first.recorded, again) == (1, first)
    assert len([entry async for entry in lp.list_interactions("steer-retry")]) == 1
    with pytest.raises(AlreadyExists, match="'r-1'"):
        await lp.record_interactions("steer-retry", [NewInteraction(item, 1.0)], request_id="r-1")


async def test_without_a_history_nothing_supports_anything(lp: LangPTune) -> None:
    with pytest.raises(NotFound, match="profile 'steer-nobody'"):
        await lp.explain_profile("steer-nobody")
    edited = await lp.update_profile("steer-nobody", "Likes trains.")
    found = await lp.explain_profile("steer-nobody")
    assert [(each.support, each.nearest_score) for each in found.sentences] == [((), None)]
    await lp.update_profile("steer-nobody", "I. " * 65, etag=edited.etag)
    with pytest.raises(FailedPrecondition, match="65 sentences"):
        await lp.explain_profile("steer-nobody")


async def test_a_text_that_the_embedder_would_not_read_to_its_end_is_refused(lp: LangPTune, users: list[str]) -> None:
    long = "They like western films. " * 100  # the sample embedder reads 256 tokens
    with pytest.raises(InvalidArgument, match="text: is too long: the embedder reads the first"):
        await lp.update_profile("steer-long", long)
    edited = await lp.update_profile(users[4], "Mine.")
    await lp.refresh_profile(users[4], seed=1)
    with pytest.raises(InvalidArgument, match="text: is too long"):
        await lp.accept_profile_suggestion(users[4], etag=edited.etag, merged_text=long)
    assert await lp.get_profile(users[4]) == edited


async def test_what_is_avoided_is_in_no_ranking(lp: LangPTune, users: list[str]) -> None:
    """By profile, by history and by popularity: the genre of the best item, which is a category, is gone from all three."""
    await lp.update_profile("steer-typed", "They like western films and desert settings.")
    for user, basis in (
        ("steer-typed", RankingBasis.PROFILE),
        (users[2], RankingBasis.HISTORY),
        ("steer-newcomer", RankingBasis.POPULARITY),
    ):
        before = await lp.recommend(user, k=20)
        assert before.basis == basis
        genre = before.items[0].item.categories[0]
        once = await lp.recommend(user, k=20, avoid=[genre])
        assert await lp.add_avoid_phrase(user, f"  {genre} ") == (genre,)
        after = await lp.recommend(user, k=20)
        assert (after.items, after.basis) == (once.items, basis)
        assert len(after.items) == 20
        assert all(genre not in place.item.categories for place in after.items)
        assert [place.position for place in after.items] == list(range(1, 21))
        assert await lp.remove_avoid_phrase(user, genre.upper()) == ()
        assert (await lp.recommend(user, k=20)).items == before.items


async def test_the_list_is_beside_the_profile(lp: LangPTune) -> None:
    assert await lp.list_avoid_phrases("steer-lister") == ()
    await lp.add_avoid_phrase("steer-lister", "clowns")
    edited = await lp.update_profile("steer-lister", "Likes trains.")
    assert await lp.add_avoid_phrase("steer-lister", "Boats") == ("Boats", "clowns")
    page = await lp.get_profile_page("steer-lister")
    assert (page.profile, page.avoid) == (edited, ("Boats", "clowns")), "the profile's etag is as it was"
    with pytest.raises(InvalidArgument, match="avoid: makes 21"):
        await lp.recommend("steer-lister", avoid=[str(at) for at in range(19)])


async def test_a_preview_is_held_against_the_ranking_under_the_same_rules(lp: LangPTune, world: World, users: list[str]) -> None:
    """With a theme avoided, which is no category: every place is that of the whole rankings before and after the edit."""
    user = users[3]
    written = await lp.refresh_profile(user, seed=2)
    await lp.add_avoid_phrase(user, "revenge stories")
    before = {place.item.item_id: place.position for place in (await lp.recommend(user, k=100)).items}
    text = "The user enjoys western films. They like desert settings."
    preview = await lp.preview(user, text, k=10)
    await lp.update_profile(user, text, etag=written.etag)
    after = {place.item.item_id: place.position for place in (await lp.recommend(user, k=100)).items}
    assert [place.item.item_id for place in preview.items] == list(after)[:10]
    for place in (*preview.items, *preview.leaving):
        assert after.get(place.item.item_id, place.position) == place.position
        assert before.get(place.item.item_id, place.previous_position) == place.previous_position
    assert preview.leaving


async def test_filters_hold_whatever_is_ranked_by(lp: LangPTune, world: World, users: list[str]) -> None:
    genre = next(iter(world.dataset.items.values())).categories[0]
    where = ItemFilter(all=(Between("price", None, 10.0),), none=(AnyOf("categories", (genre,)),))
    passing = {
        item.item_id for item in world.dataset.items.values() if (item.price or 99) <= 10.0 and genre not in item.categories
    }
    await lp.update_profile("steer-filter", "They like western films.")
    for user in ("steer-filter", users[4], "steer-stranger"):
        found = await lp.recommend(user, k=100, where=where)
        listed = {place.item.item_id for place in found.items}
        assert listed <= passing
        history = {entry.item_id for entry in _histories(world).get(user, [])}
        assert len(listed) == min(100, len(passing - history))
    with pytest.raises(InvalidArgument, match=r"filter.all\[0\].field"):
        await lp.recommend("steer-filter", where=ItemFilter(all=(AnyOf("colour", ("red",)),)))


async def test_attributes_of_json_lines_and_of_a_data_set_can_be_filtered_by(lp: LangPTune, world: World, tmp_path: Path) -> None:
    """`year` is declared filterable by default. The one item comes as a line, the other in a row of a prepared data set."""
    lines = tmp_path / "items.jsonl"
    lines.write_text('{"item_id": "steer-1979", "title": "Alien", "attributes": {"year": 1979, "crew": ["Ripley", "Ash"]}}\n')
    listed = Item("steer-1986", "Aliens", attributes={"year": 1986.0})
    dataset = write_dataset(tmp_path / "set", name="set", items=[listed], interactions=[], sessions=[], made_by={})
    await lp.import_items([*read_lines(lines, parse_item), *dataset.items.values()])
    await lp.update_profile("steer-year", "They like space horror.")
    try:
        for low, high, expected in ((1979, 1979, ["Alien"]), (1980, 1990, ["Aliens"]), (1950, 1960, [])):
            found = await lp.recommend("steer-year", where=ItemFilter(all=(Between("year", low, high),)))
            assert [place.item.title for place in found.items] == expected
    finally:
        channel: Any = open_channel(world.decoder.address)
        gone = decoder_pb2.DeleteItemsRequest(item_ids=["steer-1979", "steer-1986"])
        await decoder_pb2_grpc.DecoderServiceStub(channel).DeleteItems(gone)
        await channel.close()
