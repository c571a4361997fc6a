"""A gateway with its page over real services, and pages of a real Chromium; skipped where no Chromium is installed."""

import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
from playwright.async_api import Page, async_playwright

from langptune.client import LangPTune
from langptune.local.process import free_port
from samples.dataset import make_dataset
from tests.integration.gateway.world import World, running_world
from tests.support.processes import running_service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
]


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
    with (
        running_world(folder, make_dataset(folder / "data", items=120, users=40)) as world,
        running_service("trainer", folder, world.env | {"LANGPTUNE_JOBS_FOLDER": str(folder / "jobs")}) as trainer,
        world.another_gateway(LANGPTUNE_GATEWAY_HTTP_PORT=str(port), LANGPTUNE_TRAINER_ADDRESS=trainer.address) as gateway,
    ):
        yield Site(f"http://127.0.0.1:{port}/", gateway.address, world)


@pytest.fixture
async def lp(site: Site) -> AsyncIterator[LangPTune]:
    """With the catalogue and all histories imported."""
    async with LangPTune(site.gateway) as client:
        await client.import_items(site.world.dataset.items.values())
        await client.import_interactions(site.world.dataset.interactions)
        yield client


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """An empty tab; the test fails on any script error in it."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH")
    problems: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        tab = await browser.new_page(viewport={"width": 1200, "height": 900})
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.set_default_timeout(30_000)
        yield tab
        await browser.close()
    assert not problems
