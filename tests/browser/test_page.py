"""The page in a real browser: read, edit with a preview, save, conflict, suggestion, marks, restore; hostile text; keyboard."""

import httpx
import pytest
from playwright.async_api import Page, expect

from langptune.client import LangPTune, ProfileOrigin, RankingBasis
from tests.browser.conftest import Site

WESTERNS = "The user enjoys western films. They like desert settings."
expect.set_options(timeout=30_000)


@pytest.fixture
async def opened(site: Site, lp: LangPTune, page: Page, request: pytest.FixtureRequest) -> tuple[Page, str]:
    """The page of a user with a written profile; every test has a user of its own."""
    users = sorted({user for user, _ in site.world.dataset.interactions})
    user = users[sum(map(ord, request.node.name)) % len(users)]
    await lp.refresh_profile(user, overwrite_edited=True, seed=1)
    await page.goto(f"{site.url}#{user}")
    await expect(page.locator("#items li")).to_have_count(10)
    return page, user


async def test_an_edit_is_previewed_saved_and_restored(opened: tuple[Page, str], lp: LangPTune) -> None:
    page, user = opened
    before = await lp.get_profile(user)
    await expect(page.locator("#text")).to_have_value(before.text)
    reasons = [each.sentence for each in (await lp.recommend(user, explain=True)).reasons if each.sentence]
    assert reasons
    await expect(page.locator("#items .why q")).to_have_text(reasons)
    await page.locator("#text").fill(WESTERNS)
    await expect(page.locator("#ranking-about")).to_contain_text("nothing is saved")
    expected = await lp.preview(user, WESTERNS)
    await expect(page.locator("#items .title")).to_have_text([place.item.title for place in expected.items])
    moved = [place for place in expected.items if place.position != place.previous_position]
    assert moved, "an edit that moves nothing shows nothing"
    await expect(page.locator("#items .move.up, #items .move.down")).to_have_count(len(moved))
    await expect(page.locator("#leaving-items li")).to_have_count(len(expected.leaving))
    assert await lp.get_profile(user) == before, "nothing is stored"

    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator("#status")).to_contain_text("Saved")
    saved = await lp.get_profile(user)
    assert (saved.text, saved.origin) == (WESTERNS, ProfileOrigin.EDITED)
    assert (await lp.recommend(user)).basis == RankingBasis.PROFILE
    await expect(page.locator("#items .title")).to_have_text([place.item.title for place in expected.items])

    await page.get_by_role("button", name=f"What changed since revision {before.revision}").click()
    await expect(page.locator("#revision-list ins").first).to_be_visible()
    await page.get_by_role("button", name=f"Restore revision {before.revision}").click()
    await expect(page.locator("#text")).to_have_value(before.text)


async def test_regenerate_never_overwrites_ones_own_words(opened: tuple[Page, str], lp: LangPTune) -> None:
    page, user = opened
    current = await lp.get_profile(user)
    await lp.update_profile(user, WESTERNS, etag=current.etag)
    await page.reload()
    await expect(page.locator("#text")).to_have_value(WESTERNS)
    await page.get_by_role("button", name="Regenerate").click()
    await expect(page.locator("#suggestion")).to_be_visible()
    suggested = (await lp.get_profile_page(user)).suggestion
    assert suggested is not None
    await expect(page.locator("#suggestion-text")).to_have_text(suggested.text)
    assert (await lp.get_profile(user)).text == WESTERNS
    await page.get_by_role("button", name="Add to mine").click()
    await expect(page.locator("#suggestion")).to_be_hidden()
    merged = await lp.get_profile(user)
    assert (merged.text, merged.origin) == (f"{WESTERNS}\n{suggested.text}", ProfileOrigin.SUGGESTED)


async def test_two_tabs_that_edit_at_once_lose_nothing(opened: tuple[Page, str], lp: LangPTune) -> None:
    page, user = opened
    await page.locator("#text").fill("What I typed here.")
    current = await lp.get_profile(user)
    await lp.update_profile(user, "What the other tab saved.", etag=current.etag)
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator("#conflict")).to_contain_text("What the other tab saved.")
    await expect(page.locator("#text")).to_have_value("What I typed here.")
    assert (await lp.get_profile(user)).text == "What the other tab saved."
    await page.get_by_role("button", name="Save mine over it").click()
    await expect(page.locator("#conflict")).to_be_hidden()
    assert (await lp.get_profile(user)).text == "What I typed here."


async def test_sentences_are_pinned_and_called_not_true(opened: tuple[Page, str], lp: LangPTune) -> None:
    page, user = opened
    current = await lp.get_profile(user)
    await lp.update_profile(user, "Likes trains. Hates rain.", etag=current.etag)
    await page.reload()
    await page.get_by_role("button", name="Pin: Likes trains.").click()
    await expect(page.get_by_role("button", name="Pin: Likes trains.")).to_have_attribute("aria-pressed", "true")
    await page.get_by_role("button", name="Not true: Hates rain.").click()
    await expect(page.locator("#text")).to_have_value("Likes trains.")
    await expect(page.locator("#sentences .not-true")).to_contain_text("Hates rain.")
    assert (await lp.get_profile(user)).text == "Likes trains."


async def test_markup_is_text(opened: tuple[Page, str], lp: LangPTune) -> None:
    page, user = opened
    hostile = "<img src=x onerror=\"document.title='owned'\"> <script>document.title='owned'</script> & <b>bold</b>"
    current = await lp.get_profile(user)
    await lp.update_profile(user, hostile, etag=current.etag)
    await page.reload()
    await expect(page.locator("#text")).to_have_value(hostile)
    await expect(page.locator("#sentences")).to_contain_text("<b>bold</b>")
    assert await page.locator("main img, main b, main script").count() == 0
    await expect(page).to_have_title("LangPTune: my profile")


async def test_the_keyboard_is_enough(opened: tuple[Page, str], lp: LangPTune) -> None:
    """From the top of the page to a saved edit without a pointer."""
    page, user = opened
    focused = page.locator(":focus")
    for _ in range(12):
        await page.keyboard.press("Tab")
        if await focused.get_attribute("id") == "text":
            break
    await expect(page.locator("#text")).to_be_focused()
    await page.keyboard.press("Control+A")
    await page.keyboard.type("Likes trains.")
    await expect(page.locator("#save")).to_be_enabled()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("#status")).to_contain_text("Saved")
    assert (await lp.get_profile(user)).text == "Likes trains."


async def test_a_phone_shows_everything_without_scrolling_sideways(opened: tuple[Page, str]) -> None:
    page, _ = opened
    await page.set_viewport_size({"width": 360, "height": 740})
    for name in ("profile", "ranking", "revisions"):
        await expect(page.locator(f"#{name}")).to_be_visible()
    box = await page.locator("body").bounding_box()
    assert box is not None
    assert box["width"] <= 360
    for part in await page.locator("main *:visible").all():
        inner = await part.bounding_box()
        assert inner is None or inner["x"] + inner["width"] <= 361, await part.evaluate_handle("node => node.outerHTML")


async def test_an_operator_sees_the_releases(page: Page, site: Site, lp: LangPTune) -> None:
    await page.goto(f"{site.url}#/operator")
    await expect(page.locator("#jobs")).to_contain_text("None yet")
    await expect(page.locator("#releases tbody th")).to_have_text([site.world.release.release_id])
    await expect(page.locator("#releases tbody td").last).to_have_text("live")


async def test_a_failing_backend_is_said_and_nothing_typed_is_lost(opened: tuple[Page, str]) -> None:
    page, _ = opened
    down = '{"code": "unavailable", "message": "the decoder is down"}'
    await page.route("**/Preview", lambda route: route.fulfill(status=503, content_type="application/json", body=down))
    await page.route("**/UpdateProfile", lambda route: route.abort())
    await page.locator("#text").fill("Words that matter.")
    await expect(page.locator("#status")).to_have_text("the decoder is down")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator("#status")).to_have_text("The server cannot be reached.")
    await expect(page.locator("#text")).to_have_value("Words that matter.")
    await expect(page.locator("#save")).to_be_enabled()


async def test_the_door_refuses_what_it_should(site: Site) -> None:
    """Other hosts' names, unknown paths, bad input: an answer that says so, and the same typed errors as over gRPC."""
    async with httpx.AsyncClient(base_url=site.url) as http:
        assert (await http.get("/", headers={"Host": "evil.example"})).status_code == 400
        assert (await http.get("/../settings.py")).status_code == 404
        answer = await http.get("/")
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        wrong = await http.post("/langptune.v1.RecommendationService/Recommend", json={"userId": "two words"})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_argument")
        assert "user_id" in wrong.json()["message"]
        assert wrong.json()["details"][0]["type"] == "google.rpc.ErrorInfo"
        form = await http.post("/langptune.v1.ProfileService/GetProfile", data={"userId": "u1"})
        assert form.status_code == 415, "what a form of another site can send is refused"
        assert "access-control-allow-origin" not in answer.headers
