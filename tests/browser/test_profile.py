"""The page in a real browser: a person reads their profile, edits it, sees what would move, saves, goes back."""

import pytest
from playwright.async_api import Page, expect

from langptune.client import LangPTune, ProfileOrigin, RankingBasis
from tests.browser.conftest import OpenTab, Site, rewrite, show

pytestmark = pytest.mark.asyncio(loop_scope="session")
WESTERNS = "The user enjoys western films. They like desert settings."


async def test_an_edit_is_previewed_saved_and_restored(page: Page, site: Site, user: str, lp: LangPTune) -> None:
    before = await lp.get_profile(user)
    await show(page, site, user)
    reasons = [each.sentence for each in (await lp.recommend(user, explain=True)).reasons if each.sentence]
    assert reasons
    await expect(page.locator("#items .why q")).to_have_text(reasons)

    await rewrite(page, WESTERNS)
    await expect(page.locator("#ranking-about")).to_contain_text("Nothing is saved")
    expected = await lp.preview(user, WESTERNS)
    titles = [place.item.title for place in expected.items]
    await expect(page.locator("#items .title")).to_have_text(titles)
    moved = [place for place in expected.items if place.position != place.previous_position]
    assert moved, "an edit that moves nothing shows nothing"
    await expect(page.locator("#items .move.up, #items .move.down")).to_have_count(len(moved))
    await expect(page.locator("#leaving-items li")).to_have_count(len(expected.leaving))
    assert await lp.get_profile(user) == before, "nothing is stored"

    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("status")).to_contain_text("Saved")
    saved = await lp.get_profile(user)
    assert (saved.text, saved.origin) == (WESTERNS, ProfileOrigin.EDITED)
    assert (await lp.recommend(user)).basis == RankingBasis.PROFILE
    await expect(page.locator("#items .title")).to_have_text(titles)
    await expect(page.locator("#unsaved")).to_be_hidden()

    await page.get_by_role("button", name=f"What changed since revision {before.revision}").click()
    await expect(page.locator("#revision-list ins").first).to_be_visible()
    await page.get_by_role("button", name=f"Restore revision {before.revision}").click()
    await expect(page.locator("#profile-about")).to_contain_text("An earlier text")
    assert (await lp.get_profile(user)).text == before.text


async def test_one_sentence_is_changed_where_it_stands(page: Page, site: Site, user: str, lp: LangPTune) -> None:
    """Enter ends the edit and keeps it, Escape takes it back; other sentences and line breaks stay as they are."""
    current = await lp.get_profile(user)
    await lp.update_profile(user, "Likes trains.\nHates rain. Loves snow.", etag=current.etag)
    await show(page, site, user)
    await page.locator("#sections").get_by_role("button", name="Hates rain.").click()
    field = page.get_by_label("Change this sentence")
    await field.fill("Likes rain.")
    await field.press("Enter")
    await expect(page.locator("#sections .said")).to_have_text(["Likes trains.", "Likes rain.", "Loves snow."])
    await expect(page.locator("#sections").get_by_role("button", name="Likes rain.")).to_be_focused()
    await page.locator("#sections").get_by_role("button", name="Loves snow.").click()
    await field.fill("Anything")
    await field.press("Escape")
    await page.locator("#sections").get_by_role("button", name="Likes trains.").click()
    await page.get_by_role("button", name="Remove").click()
    await page.get_by_role("button", name="Add a sentence").click()
    await field.fill("Never horror.")
    await field.press("Control+Enter")
    await expect(page.get_by_role("status")).to_contain_text("Saved")
    assert (await lp.get_profile(user)).text == "Likes rain. Loves snow. Never horror."


async def test_discarding_an_edit_brings_text_and_list_back(page: Page, site: Site, user: str, lp: LangPTune) -> None:
    await show(page, site, user)
    titles = await page.locator("#items .title").all_text_contents()
    await rewrite(page, WESTERNS)
    await expect(page.locator("#ranking-about")).to_contain_text("Nothing is saved")
    await page.get_by_role("button", name="Discard").click()
    await expect(page.locator("#text")).to_have_value((await lp.get_profile(user)).text)
    await expect(page.locator("#items .title")).to_have_text(titles)
    await expect(page.locator("#ranking-about")).to_contain_text("By your profile")


async def test_a_reason_leads_to_the_sentence_that_it_names(page: Page, site: Site, user: str) -> None:
    await show(page, site, user)
    reason = page.locator("#items .why").first
    said = await reason.locator("q").text_content()
    await reason.click()
    await expect(page.locator(".said:focus")).to_have_text(str(said))


async def test_regenerate_never_overwrites_ones_own_words(page: Page, site: Site, user: str, lp: LangPTune) -> None:
    """A suggestion lies beside them; chosen sentences of it are laid on the screen, and saved when the user says so."""
    current = await lp.get_profile(user)
    await lp.update_profile(user, WESTERNS, etag=current.etag)
    await show(page, site, user)
    await page.get_by_role("button", name="Regenerate").click()
    await expect(page.locator("#suggestion")).to_be_focused()
    suggested = (await lp.get_profile_page(user)).suggestion
    assert suggested is not None
    boxes = page.locator("#suggestion").get_by_role("checkbox")
    sentences = await page.locator("#suggestion .prose").all_text_contents()
    assert " ".join(sentences) == suggested.text
    for at in range(1, len(sentences)):
        await boxes.nth(at).uncheck()
    await page.get_by_role("button", name="Add the chosen to mine").click()
    await expect(page.locator("#ranking-about")).to_contain_text("Nothing is saved")
    assert (await lp.get_profile(user)).text == WESTERNS
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("status")).to_contain_text("Saved")
    merged = await lp.get_profile_page(user)
    assert (merged.profile.text, merged.profile.origin) == (f"{WESTERNS} {sentences[0]}", ProfileOrigin.SUGGESTED)
    assert merged.suggestion is None
    await expect(page.locator("#suggestion")).to_be_hidden()


async def test_sentences_are_pinned_and_called_not_true(page: Page, site: Site, user: str, lp: LangPTune) -> None:
    current = await lp.get_profile(user)
    await lp.update_profile(user, "Likes trains. Hates rain.", etag=current.etag)
    await show(page, site, user)
    await page.locator("#sections").get_by_role("button", name="Likes trains.").click()
    await page.get_by_role("button", name="Pin", exact=True).click()
    await expect(page.locator(".sentence[data-pinned]")).to_contain_text("Likes trains.")
    await page.locator("#sections").get_by_role("button", name="Hates rain.").click()
    await page.get_by_role("button", name="Not true").click()
    await expect(page.locator("#sections .said")).to_have_text(["Likes trains."])
    await expect(page.locator("#denied-list")).to_contain_text("Hates rain.")
    assert (await lp.get_profile(user)).text == "Likes trains."
    await page.get_by_role("button", name="Allow again: Hates rain.").click()
    await expect(page.locator("#denied")).to_be_hidden()


async def test_who_has_no_profile_writes_one(page: Page, site: Site, lp: LangPTune) -> None:
    """Nobody knows this user: the list says why it is what it is, and follows the first words."""
    await page.goto(f"{site.url}#a-stranger")
    await expect(page.locator("#ranking-about")).to_contain_text("neither a profile nor a history")
    await page.get_by_role("button", name="Write my own").click()
    await page.get_by_label("Change this sentence").fill(WESTERNS)
    await expect(page.locator("#ranking-about")).to_contain_text("Nothing is saved")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator("#profile-about")).to_contain_text("In your own words")
    assert (await lp.get_profile("a-stranger")).text == WESTERNS


async def test_an_unsaved_edit_is_not_left_without_a_question(page: Page, site: Site, user: str) -> None:
    await show(page, site, user)
    await rewrite(page, WESTERNS)
    await page.get_by_label("User").fill("somebody-else")
    await page.get_by_role("button", name="Open").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("not saved")
    await dialog.get_by_role("button", name="Not now").click()
    await expect(page.locator("#text")).to_have_value(WESTERNS)
    await page.get_by_role("link", name="Operator").click()
    await expect(page.locator("#operator-view")).to_be_visible()
    await page.get_by_role("link", name="Profile").click()
    await expect(page.locator("#text")).to_have_value(WESTERNS)


async def test_two_tabs_that_edit_at_once_lose_nothing(tab: OpenTab, site: Site, user: str, lp: LangPTune) -> None:
    """The second to save sees both texts and puts them together: one took a sentence out, the other put one in."""
    current = await lp.get_profile(user)
    await lp.update_profile(user, "Likes trains. Hates rain.", etag=current.etag)
    first, second = await show(await tab(), site, user), await show(await tab(), site, user)
    await rewrite(first, "Likes trains.")
    await rewrite(second, "Likes trains. Loves snow. Hates rain.")
    await first.get_by_role("button", name="Save", exact=True).click()
    await expect(first.get_by_role("status")).to_contain_text("Saved")
    await second.get_by_role("button", name="Save", exact=True).click()
    conflict = second.locator("#conflict")
    await expect(conflict).to_be_focused()
    await expect(conflict).to_contain_text("The profile was changed elsewhere")
    await expect(conflict.locator("ins").first).to_have_text("Loves snow.")
    assert (await lp.get_profile(user)).text == "Likes trains."
    await second.get_by_role("button", name="Put both together").click()
    await expect(second.locator("#text")).to_have_value("Likes trains. Loves snow.")
    assert (await lp.get_profile(user)).text == "Likes trains.", "nothing is saved before the user says so"
    await second.get_by_role("button", name="Save", exact=True).click()
    await expect(second.get_by_role("status")).to_contain_text("Saved")
    assert (await lp.get_profile(user)).text == "Likes trains. Loves snow."


async def test_each_sentence_shows_what_it_rests_on(page: Page, site: Site, user: str, lp: LangPTune) -> None:
    """Of a written profile beside each sentence, and in full where it is open; that nothing supports one is said, too."""
    evidence = await lp.explain_profile(user)
    assert evidence.sentences
    await show(page, site, user)
    for at, sentence in enumerate(evidence.sentences):
        row = page.locator("#sections .sentence").nth(at)
        number = len(sentence.support)
        expected = "nothing supports this" if not number else "from 1 rating" if number == 1 else f"from {number} ratings"
        await expect(row.locator(".flag")).to_have_text(expected)
        await row.locator(".said").click()
        panel = page.locator(".editing")
        if number:
            titles = [support.interaction.item.title for support in sentence.support]
            await expect(panel.locator(".evidence strong")).to_have_text(titles[:3])
        else:
            await expect(panel).to_contain_text("Nothing in your ratings supports this sentence.")
        await page.keyboard.press("Escape")


async def test_what_is_avoided_leaves_the_list_at_once(page: Page, site: Site, user: str, lp: LangPTune) -> None:
    await show(page, site, user)
    genre = (await lp.recommend(user)).items[0].item.categories[0]
    await page.get_by_label("What you never want to see").fill(genre)
    await page.keyboard.press("Enter")
    await expect(page.locator(".chip")).to_contain_text(genre)
    await expect(page.get_by_role("status")).to_contain_text("will not be shown")
    assert await lp.list_avoid_phrases(user) == (genre,)
    avoiding = [place.item.title for place in (await lp.recommend(user)).items]
    await expect(page.locator("#items .title")).to_have_text(avoiding)
    assert genre not in {category for place in (await lp.recommend(user)).items for category in place.item.categories}
    await page.get_by_role("button", name=f"Allow again: {genre}").click()
    await expect(page.locator(".chip")).to_have_count(0)
    assert await lp.list_avoid_phrases(user) == ()
