"""Profiles on a real Redis: one line of revisions, whoever writes at the same time."""

import asyncio

import pytest
import redis.asyncio as redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langptune.errors import Aborted, InvalidArgument, NotFound
from services.gateway.live import Pins
from services.gateway.profiles.marks import Mark, Marks
from services.gateway.profiles.revision import Draft, Origin, Suggestion
from services.gateway.profiles.store import Profiles

LIVE = Pins("enc-1", "dec-1", "r1")


async def test_revisions_are_numbered_and_carry_their_origin(profiles: Profiles) -> None:
    assert await profiles.find("u1") is None
    written = await profiles.extend("u1", None, Draft("Likes cats.", Origin.GENERATED, LIVE, 7), expected="")
    edited = await profiles.edit("u1", "Likes dogs.", written.etag, Pins("enc-2", "dec-2", "r2"))
    restored = await profiles.restore("u1", 1, edited.etag)
    assert [(each.revision, each.origin, each.own_words) for each in (written, edited, restored)] == [
        (1, Origin.GENERATED, False),
        (2, Origin.EDITED, True),
        (3, Origin.RESTORED, False),
    ]
    assert (restored.text, restored.pins, restored.interactions) == ("Likes cats.", LIVE, 7)
    assert await profiles.get("u1") == restored
    assert len({written.etag, edited.etag, restored.etag}) == 3


async def test_a_restored_edit_is_still_the_users_own_words(profiles: Profiles) -> None:
    edited = await profiles.edit("u1", "Likes dogs.", "", LIVE)
    written = await profiles.extend("u1", edited, Draft("Likes cats.", Origin.GENERATED, LIVE), expected=edited.etag)
    assert (await profiles.restore("u1", 1, written.etag)).own_words


async def test_a_stale_etag_is_aborted_with_the_current_one(profiles: Profiles) -> None:
    first = await profiles.edit("u1", "one", "", LIVE)
    second = await profiles.edit("u1", "two", first.etag, LIVE)
    for etag in (first.etag, "", "nonsense"):
        with pytest.raises(Aborted) as caught:
            await profiles.edit("u1", "three", etag, LIVE)
        assert caught.value.etag == second.etag
    with pytest.raises(Aborted) as caught:
        await profiles.edit("u2", "an etag of no profile", first.etag, LIVE)
    assert caught.value.etag == ""
    assert await profiles.get("u1") == second
    assert await profiles.find("u2") is None


async def test_a_profile_that_moved_on_while_a_model_wrote_is_left_alone(profiles: Profiles) -> None:
    before = await profiles.edit("u1", "one", "", LIVE)
    meanwhile = await profiles.edit("u1", "two", before.etag, LIVE)
    with pytest.raises(Aborted) as caught:
        await profiles.extend("u1", before, Draft("generated", Origin.GENERATED, LIVE), expected=before.etag)
    assert caught.value.etag == meanwhile.etag
    assert await profiles.get("u1") == meanwhile


async def test_of_ten_first_edits_exactly_one_wins(profiles: Profiles) -> None:
    edits = [profiles.edit("u1", f"text {number}", "", LIVE) for number in range(10)]
    outcomes = await asyncio.gather(*edits, return_exceptions=True)
    assert sum(isinstance(outcome, Aborted) for outcome in outcomes) == 9
    assert (await profiles.get("u1")).revision == 1


async def test_old_revisions_are_forgotten(profiles: Profiles) -> None:
    etag = ""
    for number in range(1, 9):
        etag = (await profiles.edit("u1", f"text {number}", etag, LIVE)).etag
    page, token = await profiles.revisions("u1", 3, "")
    rest, end = await profiles.revisions("u1", 3, token)
    assert [each.revision for each in page + rest] == [8, 7, 6, 5, 4]
    assert end == ""
    with pytest.raises(NotFound, match="u1/3"):
        await profiles.restore("u1", 3, etag)


async def test_pages_hold_through_new_revisions(profiles: Profiles) -> None:
    etag = ""
    for number in range(1, 5):
        etag = (await profiles.edit("u1", f"text {number}", etag, LIVE)).etag
    page, token = await profiles.revisions("u1", 2, "")
    await profiles.edit("u1", "text 5", etag, LIVE)
    rest, end = await profiles.revisions("u1", 2, token)
    assert [each.revision for each in page + rest] == [4, 3, 2, 1]
    assert end == ""


@pytest.mark.parametrize("token", ["x", "OTk5", "LTE=", "🙂", "MA=="])
async def test_a_made_up_page_token_is_refused(profiles: Profiles, token: str) -> None:
    await profiles.edit("u1", "text", "", LIVE)
    with pytest.raises(InvalidArgument, match="page_token"):
        await profiles.revisions("u1", 2, token)


async def test_what_is_not_there_is_named(profiles: Profiles) -> None:
    with pytest.raises(NotFound, match="profile 'u1'"):
        await profiles.get("u1")
    with pytest.raises(NotFound, match="profile 'u1'"):
        await profiles.revisions("u1", 0, "")
    with pytest.raises(NotFound, match="profile 'u1'"):
        await profiles.restore("u1", 1, "")
    for user_id in ("", "a b", "x" * 129, "u\n1", "é"):
        with pytest.raises(InvalidArgument, match="user_id"):
            await profiles.find(user_id)
    for revision in (0, -1, 2**63 - 1):
        with pytest.raises(InvalidArgument, match="revision"):
            await profiles.restore("u1", revision, "")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["read", "write"])), max_size=30))
async def test_any_interleaving_of_edits_is_one_line_of_revisions(client: redis.Redis, steps: list[tuple[int, str]]) -> None:
    """Four people read and write at will, each with the etag last read: a write succeeds exactly when nothing came between."""
    await client.flushall()
    profiles = Profiles(client, revisions_kept=100)
    etags = dict.fromkeys(range(4), "")
    texts: list[str] = []
    current = ""
    for number, (person, action) in enumerate(steps):
        if action == "read":
            etags[person] = current
            continue
        if etags[person] != current:
            with pytest.raises(Aborted) as caught:
                await profiles.edit("u1", "too late", etags[person], LIVE)
            assert caught.value.etag == current
            continue
        stored = await profiles.edit("u1", f"{number} by {person}", current, LIVE)
        current = etags[person] = stored.etag
        texts.append(stored.text)
    line = (await profiles.revisions("u1", 100, ""))[0] if texts else []
    assert [(each.revision, each.text) for each in reversed(line)] == list(enumerate(texts, start=1))


async def test_the_same_edit_sent_twice_is_one_revision(profiles: Profiles) -> None:
    """The first answer was lost on the way: the repetition, with the etag from before, finds its own work done."""
    first = await profiles.edit("u1", "one", "", LIVE)
    second = await profiles.edit("u1", "two", first.etag, LIVE)
    assert await profiles.edit("u1", "two", first.etag, LIVE) == second
    with pytest.raises(Aborted):
        await profiles.edit("u1", "three", first.etag, LIVE)
    assert (await profiles.get("u1")).revision == 2


async def test_a_suggestion_waits_until_it_is_taken_or_dismissed(profiles: Profiles) -> None:
    edited = await profiles.edit("u1", "My own words.", "", LIVE)
    suggestion = Suggestion("Likes cats.", Pins("enc-2", "dec-2", "r2"), 7, 1_000)
    await profiles.suggest("u1", suggestion)
    assert await profiles.suggestion("u1") == suggestion
    changed = await profiles.edit("u1", "My other words.", edited.etag, LIVE)
    with pytest.raises(Aborted):
        await profiles.accept("u1", edited.etag, "")
    assert await profiles.suggestion("u1") == suggestion
    taken = await profiles.accept("u1", changed.etag, "")
    assert (taken.revision, taken.text, taken.origin, taken.pins) == (3, "Likes cats.", Origin.SUGGESTED, suggestion.pins)
    assert not taken.own_words
    assert await profiles.suggestion("u1") is None
    with pytest.raises(NotFound, match="profile suggestion 'u1'"):
        await profiles.accept("u1", taken.etag, "")
    await profiles.suggest("u1", suggestion)
    await profiles.dismiss("u1")
    await profiles.dismiss("u1")
    assert await profiles.suggestion("u1") is None


async def test_what_a_revision_was_written_from_goes_where_its_text_goes(client: redis.Redis) -> None:
    """Kept by a restored revision, by the text less a sentence, and by a suggestion; forgotten with the revision."""
    profiles = Profiles(client, revisions_kept=3)
    draft = Draft("Likes cats. Likes dogs.", Origin.GENERATED, LIVE, 2, sources=("1 a", "2 b"))
    written = await profiles.extend("u1", None, draft, expected="")
    assert await profiles.sources("u1", written.revision) == ["1 a", "2 b"]
    shorter = await profiles.mark("u1", "Likes cats.", Mark.NOT_TRUE, written.etag, LIVE)
    assert await profiles.sources("u1", shorter.revision) == ["1 a", "2 b"]
    edited = await profiles.edit("u1", "My own words.", shorter.etag, LIVE)
    assert await profiles.sources("u1", edited.revision) == []
    await profiles.suggest("u1", Suggestion("Likes birds.", LIVE, 1, 1_000, ("3 c",)))
    taken = await profiles.accept("u1", edited.etag, "")
    assert await profiles.sources("u1", taken.revision) == ["3 c"]
    assert await profiles.sources("u1", written.revision) == [], "three revisions are kept"
    restored = await profiles.restore("u1", shorter.revision, taken.etag)
    assert (restored.text, await profiles.sources("u1", restored.revision)) == ("Likes dogs.", ["1 a", "2 b"])


async def test_a_merged_suggestion_is_the_users_own_words(profiles: Profiles) -> None:
    edited = await profiles.edit("u1", "My own words.", "", LIVE)
    await profiles.suggest("u1", Suggestion("Likes cats.", LIVE, 7, 1_000))
    merged = await profiles.accept("u1", edited.etag, " Likes cats. My own words.\r\n")
    assert (merged.text, merged.origin, merged.own_words) == ("Likes cats. My own words.", Origin.SUGGESTED, True)


async def test_marks_pin_take_out_and_are_taken_back(profiles: Profiles) -> None:
    draft = Draft("Likes cats. Likes dogs. Hates rain.", Origin.GENERATED, LIVE, 7)
    written = await profiles.extend("u1", None, draft, expected="")
    pinned = await profiles.mark("u1", "Likes dogs.", Mark.PINNED, written.etag, LIVE)
    assert pinned == written
    denied = await profiles.mark("u1", "Hates rain.", Mark.NOT_TRUE, written.etag, LIVE)
    assert (denied.revision, denied.text, denied.origin, denied.own_words) == (2, "Likes cats. Likes dogs.", Origin.EDITED, False)
    assert await profiles.marks("u1") == Marks(pinned=("Likes dogs.",), not_true=("Hates rain.",))
    await profiles.mark("u1", "hates rain", Mark.NONE, denied.etag, LIVE)
    assert await profiles.marks("u1") == Marks(pinned=("Likes dogs.",))


async def test_bad_marks_change_nothing(profiles: Profiles) -> None:
    with pytest.raises(NotFound, match="profile 'u1'"):
        await profiles.mark("u1", "Likes cats.", Mark.PINNED, "", LIVE)
    written = await profiles.extend("u1", None, Draft("Likes cats.", Origin.GENERATED, LIVE), expected="")
    for sentence, mark, problem in (
        ("Likes dogs.", Mark.PINNED, "no sentence of the profile"),
        ("Likes cats.", Mark.NONE, "is not marked"),
        ("Likes cats.", Mark.NOT_TRUE, "the whole profile"),
    ):
        with pytest.raises(InvalidArgument, match=problem):
            await profiles.mark("u1", sentence, mark, written.etag, LIVE)
    with pytest.raises(Aborted) as caught:
        await profiles.mark("u1", "Likes cats.", Mark.PINNED, "stale", LIVE)
    assert caught.value.etag == written.etag
    assert await profiles.marks("u1") == Marks()
    assert await profiles.get("u1") == written
