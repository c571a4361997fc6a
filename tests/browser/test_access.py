"""For everyone: the keyboard alone, screen readers (axe-core's rules), a phone, dark mode, no sideways scrolling."""

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from langptune.client import LangPTune
from tests.browser.conftest import OpenTab, Site, rewrite, show

pytestmark = pytest.mark.asyncio(loop_scope="session")
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"], "resultTypes": ["violations"]}
_WIDE = """[...document.querySelectorAll("body *")]
  .filter((node) => !node.closest(".scroll, .unseen, .skip, svg") && node.checkVisibility())
  .filter((node) => node.getBoundingClientRect().right > innerWidth + 1)
  .map((node) => node.outerHTML.slice(0, 200))"""
DESK, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}


async def broken_rules(page: Page) -> str:
    """What axe-core finds wrong, "" for nothing; and what is wider than the screen."""
    found = await Axe().run(page, options=RULES)
    report = found.generate_report() if found.violations_count else ""
    wide = await page.evaluate(_WIDE)
    return report + "\n".join(wide)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
async def test_no_rule_of_accessibility_is_broken(
    tab: OpenTab, site: Site, user: str, lp: LangPTune, scheme: str, size: dict[str, int]
) -> None:
    """Reading, with a suggestion; an open sentence and an unsaved edit with its preview; a conflict; the operator's view."""
    current = await lp.get_profile(user)
    current = await lp.update_profile(user, "Likes:\nTrains. And rain.\nDislikes:\nWar.", etag=current.etag)
    await lp.refresh_profile(user, seed=2)
    page = await tab(color_scheme=scheme, viewport=size)
    await page.goto(site.url)
    await expect(page.locator("#welcome")).to_be_visible()
    assert not await broken_rules(page)
    await show(page, site, user)
    await expect(page.locator("#suggestion")).to_be_visible()
    await expect(page.locator("#revision-list li").first).to_be_visible()
    assert not await broken_rules(page)
    await page.locator("#sections").get_by_role("button", name="And rain.").click()
    await page.get_by_label("Change this sentence").fill("And western films.")
    await expect(page.locator("#items .move").first).to_be_visible()
    assert not await broken_rules(page)
    await lp.update_profile(user, "Likes snow.", etag=current.etag)
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator("#conflict")).to_be_visible()
    assert not await broken_rules(page)
    await page.get_by_role("button", name="Take theirs").click()
    await page.goto(f"{site.url}#/operator")
    await expect(page.locator("#releases tbody tr").first).to_be_visible()
    assert not await broken_rules(page)


async def test_the_keyboard_is_enough(page: Page, site: Site, user: str, lp: LangPTune) -> None:
    """From the top of the page to a saved edit of one sentence without a pointer, the focus never lost."""
    current = await lp.get_profile(user)
    await lp.update_profile(user, "Likes trains. Hates rain.", etag=current.etag)
    await show(page, site, user)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()
    said = page.locator("#sections").get_by_role("button", name="Hates rain.")
    for _ in range(10):
        await page.keyboard.press("Tab")
        if await said.evaluate("(node) => node === document.activeElement"):
            break
    await expect(said).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Change this sentence")).to_be_focused()
    await page.keyboard.press("Control+A")
    await page.keyboard.type("Loves rain.")
    await page.keyboard.press("Enter")
    await expect(page.locator("#sections").get_by_role("button", name="Loves rain.")).to_be_focused()
    await page.keyboard.press("Tab")  # to "Add a sentence"
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Save", exact=True)).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("Saved")
    await expect(page.locator("#profile-title")).to_be_focused()
    assert (await lp.get_profile(user)).text == "Likes trains. Loves rain."


async def test_what_happens_is_announced(page: Page, site: Site, user: str) -> None:
    """Live regions are there from the start and are filled; a move in the list is words, not only a sign."""
    await show(page, site, user)
    await expect(page.locator("[role=status], [role=alert]")).to_have_count(2)
    await rewrite(page, "The user enjoys western films.")
    for direction in ("up", "down"):
        for words in await page.locator(f"#items .move.{direction} .unseen").all_text_contents():
            assert words.startswith(direction)
    await expect(page.locator("#items .move .unseen")).not_to_have_count(0)
    await expect(page.locator("#ranking-about")).to_have_attribute("aria-live", "polite")
