"""The operator's view in a real browser: a job is watched live, its candidate meets the gate, is published and rolled back."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from langptune.client import LangPTune, StepDone, TrainingSpec
from tests.browser.conftest import OpenTab, Site
from tests.browser.test_access import DESK, PHONE, broken_rules

pytestmark = pytest.mark.asyncio(loop_scope="session")
TRAINS = 120_000  # milliseconds that a worker may take to start and train on a busy machine
_SIZES = {
    "rlso.histories": "2",
    "rlso.samples": "2",
    "rlso.epochs": "1",
    "rlso.max_new_tokens": "16",
    "contrastive.batch_size": "4",
}


def _spec(site: Site, **sizes: int) -> TrainingSpec:
    steps = {"cl_batches": 2, "rlso_batches": 4, "final_cl_batches": 1, "validation_users": 6, **sizes}
    return TrainingSpec(str(site.world.dataset.folder), overrides=_SIZES, **steps)


async def test_a_job_is_watched_published_and_rolled_back(page: Page, site: Site, lp: LangPTune) -> None:
    first = (await lp.get_live_release()).release_id
    await page.goto(f"{site.url}#/operator")
    await expect(page.locator("#jobs")).to_contain_text("None yet")
    await expect(page.locator("#live-body .big")).to_have_text(first)
    await lp.create_training_job(_spec(site), job_id="watched")
    await expect(page.locator("#job-title")).to_have_text("watched")
    reward = page.locator(".chart").filter(has_text="Reward")
    await expect(reward.locator("circle").first).to_be_visible(timeout=TRAINS)
    await expect(page.locator("#job-state")).to_contain_text("succeeded", timeout=TRAINS)

    job = await lp.get_training_job("watched")
    events = [told.event async for told in lp.watch_training_job("watched")]
    rewards = [event.metrics["reward_mean"] for event in events if isinstance(event, StepDone) and event.phase == "rlso"]
    assert len(rewards) == 4
    await expect(reward.locator("circle")).to_have_count(4)
    await reward.get_by_text("Figures").click()
    shown = await reward.locator("tbody td").all_text_contents()
    assert [float(text) for text in shown] == pytest.approx(rewards, rel=1e-3)
    await expect(reward.get_by_role("img")).to_have_accessible_name(_starts("Reward: 4 points"))
    await expect(page.locator(".chart").filter(has_text="Validation NDCG").locator("circle")).to_have_count(2)
    await expect(page.locator("#job-notes")).to_contain_text(job.release_id)
    await _publish_and_roll_back(page, lp, first, job.release_id)


async def _publish_and_roll_back(page: Page, lp: LangPTune, first: str, candidate: str) -> None:
    dialog = page.get_by_role("dialog")
    publish = page.get_by_role("button", name=f"Publish {candidate}")
    await publish.click()
    await expect(dialog).to_contain_text("gate")
    await dialog.get_by_role("button", name="Not now").click()
    await expect(publish).to_be_focused()
    assert (await lp.get_live_release()).release_id == first, "a question was asked, and answered by no"
    await publish.click()
    gate = await lp.check_gate(candidate)
    for reason in gate.reasons:
        await expect(dialog).to_contain_text(reason)
    await dialog.get_by_label("Reason, for the record").fill("tried in a browser")
    if await dialog.get_by_label("Publish it all the same").count():
        await dialog.get_by_role("button", name=f"Publish {candidate}").click()
        await expect(dialog).to_be_visible()  # not without saying why
        await dialog.get_by_label("Publish it all the same").fill("a test needs it")
    await dialog.get_by_role("button", name=f"Publish {candidate}").click()
    await expect(page.locator("#publish-title")).to_have_text(f"Published {candidate}")
    await expect(page.locator("#publish-steps .done")).to_have_count(5)
    await expect(page.locator("#live-body .big")).to_have_text(candidate)
    assert (await lp.get_live_release()).release_id == candidate
    await expect(page.locator("#moves li").first).to_contain_text("tried in a browser")

    await page.get_by_role("button", name="Check every replica").click()
    await expect(page.locator("#replicas .badge")).to_have_text(["sound", "sound"])
    await page.get_by_role("button", name=f"Roll back to {first}").click()
    await dialog.get_by_role("button", name="Roll back").click()
    await expect(page.locator("#live-body .big")).to_have_text(first)
    assert (await lp.get_live_release()).release_id == first


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
async def test_no_rule_of_accessibility_is_broken(
    tab: OpenTab, site: Site, lp: LangPTune, scheme: str, size: dict[str, int]
) -> None:
    """With the curves of a job, all of them and their figures shown, and with the question before a publish."""
    page = await tab(color_scheme=scheme, viewport=size)
    await page.goto(f"{site.url}#/operator")
    await expect(page.locator(".chart circle").first).to_be_visible()
    await page.get_by_text("More curves").click()
    await page.get_by_text("Figures").first.click()
    assert not await broken_rules(page)
    await page.get_by_role("button", name="Publish r").first.click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert not await broken_rules(page)


async def test_a_job_is_cancelled_after_a_question(page: Page, site: Site, lp: LangPTune) -> None:
    await lp.create_training_job(_spec(site, rlso_batches=500), job_id="unwanted")
    await page.goto(f"{site.url}#/operator")
    await expect(page.locator("#job-title")).to_have_text("unwanted")
    await page.get_by_role("button", name="Cancel the job").click()
    await page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    await expect(page.locator("#job-state")).to_contain_text("cancelled", timeout=TRAINS)


async def test_a_failure_is_a_sentence(page: Page, site: Site, lp: LangPTune) -> None:
    """Another operator was first: the publish is refused, nothing is hidden, and the view shows what is so."""
    await page.goto(f"{site.url}#/operator")
    refused = '{"code": "aborted", "message": "r9 is live by now, not r1"}'
    await page.route("**/PublishRelease", lambda route: route.fulfill(status=409, content_type="application/json", body=refused))
    await page.get_by_role("button", name="Publish r").first.click()
    dialog = page.get_by_role("dialog")
    if await dialog.get_by_label("Publish it all the same").count():
        await dialog.get_by_label("Publish it all the same").fill("a test needs it")
    await dialog.locator("#confirm-yes").click()
    await expect(page.get_by_role("alert")).to_have_text("R9 is live by now, not r1.")
    await expect(page.locator("#live-body .big")).to_be_visible()


def _starts(text: str) -> Any:
    return re.compile(f"^{re.escape(text)}")
