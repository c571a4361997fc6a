"""One system with its page for all of these tests, and tabs of one real Chromium; skipped where no Chromium is installed.

Every tab collects what goes wrong in it (script errors, and what the content security policy refused): the test fails on any.
"""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from langptune.client import LangPTune
from langptune.local.process import free_port
from samples.dataset import make_dataset
from tests.integration.gateway.world import World, running_world
from tests.support.processes import running_service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
]
WAIT = 30_000  # milliseconds
_TRAINER = {"LANGPTUNE_POLL_SECONDS": "0.1", "LANGPTUNE_DRAIN_SECONDS": "0.5", "LANGPTUNE_GATE_MIN_USERS": "2"}
expect.set_options(timeout=WAIT)

OpenTab = Callable[..., Awaitable[Page]]


@dataclass(frozen=True)
class Site:
    """The page's address, and what lies behind it."""

    url: str
    gateway: str  # host:port
    world: World


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("page")
    port = free_port()
    with ExitStack() as stack:
        world = stack.enter_context(running_world(folder, make_dataset(folder / "data", items=120, users=60)))
        jobs = {"LANGPTUNE_JOBS_FOLDER": str(folder / "jobs"), **_TRAINER}
        trainer = stack.enter_context(running_service("trainer", folder, world.env | jobs))
        gateway = world.another_gateway(LANGPTUNE_GATEWAY_HTTP_PORT=str(port), LANGPTUNE_TRAINER_ADDRESS=trainer.address)
        yield Site(f"http://127.0.0.1:{port}/", stack.enter_context(gateway).address, world)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lp(site: Site) -> AsyncIterator[LangPTune]:
    """With the catalogue and all histories imported."""
    async with LangPTune(site.gateway, timeout=60.0) as client:
        await client.import_items(site.world.dataset.items.values())
        await client.import_interactions(site.world.dataset.interactions)
        yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser) -> AsyncIterator[OpenTab]:
    """Opens an empty tab with storage of its own: `await tab()`, `await tab(color_scheme="dark")`."""
    problems: list[str] = []
    contexts = []

    def hear(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text or "TrustedHTML" in message.text:
            problems.append(message.text)

    async def open_tab(**options: object) -> Page:
        settings = {"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce", **options}
        context = await browser.new_context(**settings)  # type: ignore[arg-type]  # Playwright checks them
        contexts.append(context)
        page = await context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", hear)
        page.set_default_timeout(WAIT)
        return page

    yield open_tab
    for context in contexts:
        await context.close()
    assert not problems


@pytest_asyncio.fixture(loop_scope="session")
async def page(tab: OpenTab) -> Page:
    """An empty tab."""
    return await tab()


@pytest_asyncio.fixture(loop_scope="session")
async def user(site: Site, lp: LangPTune, request: pytest.FixtureRequest) -> str:
    """A user with a written profile; every test has another one."""
    users = sorted({user for user, _ in site.world.dataset.interactions})
    taken: list[str] = request.config.stash.setdefault(_TAKEN, [])
    user = users[len(taken)]
    taken.append(user)
    await lp.refresh_profile(user, overwrite_edited=True, seed=1)
    return user


_TAKEN = pytest.StashKey[list[str]]()


async def show(page: Page, site: Site, user: str) -> Page:
    """Open `user` in a tab, and wait for the list."""
    await page.goto(f"{site.url}#{user}")
    await expect(page.locator("#items .item")).to_have_count(10)
    await expect(page.locator("#sections .said").first).to_be_visible()
    return page


async def rewrite(page: Page, text: str) -> None:
    """Put `text` in the place of the whole profile, as one who edits it as text; it is not saved."""
    await page.get_by_role("button", name="Edit as text").click()
    await page.locator("#text").fill(text)
