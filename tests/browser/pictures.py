"""Takes the pictures of the page that the documents show: `make pictures`, or `python -m tests.browser.pictures --out DIR`.

The whole system runs with the sample world's models; what is on the pictures is what it answered. Nothing is staged but the
words of the edit.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright, expect

from langptune.client import LangPTune, TrainingSpec
from langptune.data.dataset import Dataset
from langptune.local import LocalSettings, LocalSystem
from samples.dataset import make_dataset
from tests.browser.conftest import CHROMIUM, FLAGS

USER = "user-00006"
EDIT = "They like western films and desert settings."
TRAINS = 600_000  # milliseconds
DESK, PHONE = {"width": 1200, "height": 860}, {"width": 360, "height": 780}
_JOB = {"rlso.histories": "4", "rlso.samples": "4"}


async def take(out: Path, home: Path) -> None:
    """Start the system below `home`, tell the story, and put the pictures into `out`."""
    dataset = await asyncio.to_thread(make_dataset, home / "world", users=400)
    settings = LocalSettings.load(home=home / "system").with_free_ports().model_copy(update={"redis_url": None})
    async with LocalSystem(settings, start_deadline=300.0) as system, async_playwright() as playwright:
        async with LangPTune(system.gateway_address, timeout=300.0) as lp:
            await lp.import_items(dataset.items.values())
            await lp.import_interactions(dataset.interactions)
            await lp.refresh_profile(USER, seed=4)
            await lp.create_training_job(_spec(dataset), job_id="autumn")
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for scheme in ("light", "dark"):
            await _profile(browser, settings.page_url, scheme, out)
            await _operator(browser, settings.page_url, scheme, out)
        await browser.close()


def _spec(dataset: Dataset) -> TrainingSpec:
    return TrainingSpec(
        str(dataset.folder), cl_batches=4, rlso_batches=14, final_cl_batches=4, validation_users=40, overrides=_JOB
    )


async def _profile(browser: Browser, url: str, scheme: str, out: Path) -> None:
    """An edit of one sentence and what it would move; on a phone, what is saved."""
    page = await _tab(browser, scheme, DESK)
    await page.goto(f"{url}#{USER}")
    await page.locator("#items .why").first.wait_for()
    await page.locator(".said").first.click()
    await page.get_by_label("Change this sentence").fill(EDIT)
    await page.locator("#items .move").first.wait_for()
    await page.screenshot(path=out / f"page-edit-{scheme}.png")
    await page.context.close()
    page = await _tab(browser, scheme, PHONE)
    await page.goto(f"{url}#{USER}")
    await page.locator("#items .why").first.wait_for()
    await page.screenshot(path=out / f"page-phone-{scheme}.png")
    await page.context.close()


async def _operator(browser: Browser, url: str, scheme: str, out: Path) -> None:
    page = await _tab(browser, scheme, {**DESK, "height": 1100})
    await page.goto(f"{url}#/operator")
    await expect(page.locator("#job-state")).to_contain_text("succeeded", timeout=TRAINS)
    await expect(page.locator(".chart").filter(has_text="Validation NDCG").locator("circle")).to_have_count(2)
    await page.screenshot(path=out / f"page-operator-{scheme}.png")
    await page.context.close()


async def _tab(browser: Browser, scheme: str, size: dict[str, int]) -> Page:
    context = await browser.new_context(color_scheme=scheme, viewport=size, reduced_motion="reduce")  # type: ignore[arg-type]
    return await context.new_page()


def main() -> None:
    """Parse the command line and take them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder of the pictures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="langptune-pictures-") as home:
        asyncio.run(take(arguments.out, Path(home)))
        for picture in sorted(arguments.out.glob("page-*.png")):
            sys.stdout.write(f"{picture} {picture.stat().st_size // 1_024} KiB\n")


if __name__ == "__main__":
    main()
