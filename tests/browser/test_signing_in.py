"""A gateway that demands tokens: the page asks for one, keeps it for the tab, and shows what is refused as a sentence."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from langptune.identity import DEVELOPMENT_SECRET, mint
from langptune.local.process import free_port
from tests.browser.conftest import OpenTab, Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def guarded(site: Site) -> Iterator[str]:
    """The page's address on a gateway of the same system that checks tokens."""
    port = free_port()
    with site.world.another_gateway(LANGPTUNE_GATEWAY_HTTP_PORT=str(port), LANGPTUNE_GATEWAY_AUTH="jwt"):
        yield f"http://127.0.0.1:{port}/"


async def _give(page: Page, token: str) -> None:
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("dialog").get_by_role("button", name="Sign in").click()


async def test_a_token_is_asked_for_and_kept_for_the_tab(page: Page, tab: OpenTab, guarded: str, user: str) -> None:
    await page.goto(f"{guarded}#{user}")
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await page.locator("#sections .said").count() == 0
    await _give(page, mint(user, "another secret, and just as long as it"))
    await expect(page.get_by_role("dialog")).to_contain_text("not valid here")
    await _give(page, mint(user, DEVELOPMENT_SECRET))
    await expect(page.locator("#sections .said").first).to_be_visible()
    await expect(page.locator("#items .item")).to_have_count(10)
    await page.reload()
    await expect(page.locator("#sections .said").first).to_be_visible()
    await page.goto(guarded)  # whose token it is, theirs is the profile that opens
    await expect(page.get_by_label("User", exact=True)).to_have_value(user)
    await expect(page.locator("#sections .said").first).to_be_visible()

    other = await tab()
    await other.goto(f"{guarded}#{user}")
    await expect(other.get_by_role("dialog")).to_be_visible()

    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#welcome")).to_be_visible()
    assert await page.evaluate("sessionStorage.length + localStorage.length") == 0


async def test_what_a_token_may_not_is_refused_with_a_sentence(page: Page, guarded: str, user: str) -> None:
    await page.goto(f"{guarded}#somebody-else")
    await _give(page, mint(user, DEVELOPMENT_SECRET))
    await expect(page.get_by_role("alert")).to_contain_text("own user's data")
    await page.get_by_role("link", name="Operator").click()
    await expect(page.get_by_role("alert")).to_contain_text("scope")


async def test_an_expired_token_loses_nothing_that_was_typed(page: Page, guarded: str, user: str) -> None:
    await page.goto(f"{guarded}#{user}")
    await _give(page, mint(user, DEVELOPMENT_SECRET))
    await expect(page.locator("#sections .said").first).to_be_visible()
    await page.get_by_role("button", name="Edit as text").click()
    await page.locator("#text").fill("Words that matter.")
    await expect(page.locator("#ranking-about")).to_contain_text("Nothing is saved")
    await page.evaluate(
        "(token) => sessionStorage.setItem('langptune.token', token)", mint(user, DEVELOPMENT_SECRET, seconds=-99)
    )
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("dialog")).to_contain_text("expired")
    await _give(page, mint(user, DEVELOPMENT_SECRET))
    await expect(page.locator("#text")).to_have_value("Words that matter.")
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("status")).to_contain_text("Saved")
