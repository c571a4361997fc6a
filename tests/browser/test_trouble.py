"""What the page does when all is not well: slow and failing backends, hostile text, requests of other sites."""

import asyncio
import json

import httpx
import pytest
from playwright.async_api import Page, Route, expect

from langptune.client import Item, LangPTune
from langptune.local.process import free_port
from tests.browser.conftest import Site, rewrite, show

pytestmark = pytest.mark.asyncio(loop_scope="session")
HOSTILE = "<img src=x onerror=\"document.title='owned'\"> <script>document.title='owned'</script> & <b>bold</b>"


async def test_an_answer_that_comes_late_is_not_shown(page: Page, site: Site, user: str, lp: LangPTune) -> None:
    """The preview of the first words is held back until that of the last ones is on the screen."""
    await show(page, site, user)
    held = asyncio.Event()

    async def delay(route: Route) -> None:
        text = json.loads(route.request.post_data or "{}")["text"]
        if text == "Likes horror.":
            await held.wait()
        await route.continue_()

    await page.route("**/Preview", delay)
    await rewrite(page, "Likes horror.")
    await expect(page.locator("#items")).to_have_attribute("aria-busy", "true")
    await page.locator("#text").fill("Likes western films.")
    titles = [place.item.title for place in (await lp.preview(user, "Likes western films.")).items]
    await expect(page.locator("#items .title")).to_have_text(titles)
    held.set()
    await page.wait_for_timeout(300)
    await expect(page.locator("#items .title")).to_have_text(titles)
    await expect(page.locator("#items")).to_have_attribute("aria-busy", "false")
    await page.unroute_all(behavior="ignoreErrors")


async def test_a_failing_backend_is_said_and_nothing_typed_is_lost(page: Page, site: Site, user: str, lp: LangPTune) -> None:
    await show(page, site, user)
    down = '{"code": "unavailable", "message": "the decoder is down"}'
    await page.route("**/Preview", lambda route: route.fulfill(status=503, content_type="application/json", body=down))
    await page.route("**/UpdateProfile", lambda route: route.abort())
    await rewrite(page, "Words that matter.")
    await expect(page.locator("#ranking-problem")).to_contain_text("The decoder is down.")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("alert")).to_have_text("The server cannot be reached.")
    await expect(page.locator("#text")).to_have_value("Words that matter.")
    await page.unroute_all()
    await page.get_by_role("button", name="Try again").click()
    await expect(page.locator("#ranking-problem")).to_be_hidden()
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("status")).to_contain_text("Saved")
    assert (await lp.get_profile(user)).text == "Words that matter."


async def test_without_decoder_and_trainer_the_profile_can_still_be_read_and_edited(
    page: Page, site: Site, user: str, lp: LangPTune
) -> None:
    port = free_port()
    nowhere = f"127.0.0.1:{free_port()}"
    settings = {
        "LANGPTUNE_GATEWAY_HTTP_PORT": str(port),
        "LANGPTUNE_DECODER_ADDRESS": nowhere,
        "LANGPTUNE_TRAINER_ADDRESS": nowhere,
    }
    with site.world.another_gateway(**settings):
        await page.goto(f"http://127.0.0.1:{port}/#{user}")
        await expect(page.locator("#ranking-problem")).to_contain_text("could not be brought up to date")
        await expect(page.locator("#sections .said").first).to_be_visible()
        await rewrite(page, "I write in the dark.")
        await page.get_by_role("button", name="Save", exact=True).click()
        await expect(page.get_by_role("status")).to_contain_text("Saved")
        await page.get_by_role("link", name="Operator").click()
        await expect(page.get_by_role("alert")).not_to_be_empty()
    assert (await lp.get_profile(user)).text == "I write in the dark."


async def test_markup_is_text(page: Page, site: Site, user: str, lp: LangPTune) -> None:
    """In the profile, in the suggestion's place, in a title, in the name of a user."""
    item = Item("hostile", HOSTILE, HOSTILE, (HOSTILE,))
    await lp.import_items([item])
    current = await lp.get_profile(user)
    await lp.update_profile(user, HOSTILE, etag=current.etag)
    await show(page, site, user)
    await expect(page.locator("#sections")).to_contain_text("<b>bold</b>")
    await expect(page.locator('#items [data-item="hostile"] .title')).to_have_text(HOSTILE)
    await rewrite(page, f"{HOSTILE} Likes trains.")
    await expect(page.locator("#ranking-about")).to_contain_text("Nothing is saved")
    assert await page.locator("main img, main b, main script").count() == 0
    await page.get_by_role("button", name="Discard").click()
    await page.goto(f"{site.url}#{'%3Cimg%20src=x%3E'}")
    await expect(page.get_by_role("alert")).to_contain_text("user_id", ignore_case=True)
    assert await page.locator("main img").count() == 0
    assert "owned" not in await page.title()


async def test_the_door_refuses_what_it_should(site: Site) -> None:
    """Other hosts' names, other origins, unknown paths, forms, bad input: each with an answer that says so."""
    get, recommend = "/langptune.v1.ProfileService/GetProfile", "/langptune.v1.RecommendationService/Recommend"
    async with httpx.AsyncClient(base_url=site.url) as http:
        assert (await http.get("/", headers={"Host": "evil.example"})).status_code == 400
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            assert (await http.post(get, json={"userId": "u1"}, headers={"Origin": origin})).status_code == 403
        own = {"Origin": site.url.rstrip("/")}
        assert (await http.post(recommend, json={"userId": "u1"}, headers=own)).status_code == 200
        assert (await http.get("/../settings.py")).status_code == 404
        answer = await http.get("/")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "access-control-allow-origin" not in answer.headers
        assert "set-cookie" not in answer.headers
        wrong = await http.post(recommend, json={"userId": "two words"})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_argument")
        assert "user_id" in wrong.json()["message"]
        assert wrong.json()["details"][0]["type"] == "google.rpc.ErrorInfo"
        form = await http.post(get, data={"userId": "u1"})
        assert form.status_code == 415, "what a form of another site can send is refused"
        text = await http.post(get, content='{"userId": "u1"}', headers={"Content-Type": "text/plain"})
        assert text.status_code == 415


async def test_the_page_loads_nothing_from_elsewhere(page: Page, site: Site, user: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await show(page, site, user)
    await page.goto(f"{site.url}#/operator")
    await expect(page.locator("#releases tbody tr")).not_to_have_count(0)
    assert asked
    assert all(url.startswith(site.url) for url in asked)
    assert await page.evaluate("document.cookie") == ""
