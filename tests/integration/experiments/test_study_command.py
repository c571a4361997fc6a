"""`langptune study` from the outside: a model behind an endpoint, a survey that is killed, the tables of both."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from experiments.study.command import app
from experiments.study.journal import read_journal
from experiments.study.survey.screening import FILMS
from experiments.study.tasks import read_kit, write_kit
from experiments.worlds import SAMPLE_ENCODER
from tests.support.chat import FakeChat, serving_chat
from tests.unit.experiments.study.world import KINDS, small_kit

ABOUT_ME = {"english": "Well", "familiarity": "Very familiar"}


@pytest.fixture
def kit_path(tmp_path: Path) -> Path:
    write_kit(small_kit(9), tmp_path / "kit.json")
    return tmp_path / "kit.json"


async def test_a_model_behind_an_endpoint_answers_every_task(kit_path: Path) -> None:
    fake = FakeChat(reply=lambda message: "Justification: The first.\n\nChoice: A")
    async with serving_chat(fake) as url:
        arguments = ["judge", str(kit_path), "--endpoint", url, "--model", "org/some model"]
        done = await asyncio.to_thread(CliRunner().invoke, app, arguments, catch_exceptions=False)
        again = await asyncio.to_thread(CliRunner().invoke, app, arguments, catch_exceptions=False)
    found = json.loads(done.stdout)
    assert {found[kind]["answered"] for kind in KINDS} == {9}
    assert {found[kind]["right"] for kind in KINDS} == {5}
    assert Path(found["answers"]).name.endswith("org-some-model.jsonl")
    assert json.loads(again.stdout) == found
    assert len(fake.requests) == 27, "the second time nothing is asked"


def test_without_a_model_words_are_counted(kit_path: Path) -> None:
    done = CliRunner().invoke(app, ["judge", str(kit_path)], catch_exceptions=False)
    assert {json.loads(done.stdout)[kind]["refused"] for kind in KINDS} == {9}, "these profiles share no words with the items"


def test_a_model_of_this_machine_is_asked_in_its_own_chat_form(tmp_path: Path) -> None:
    """The sample world's profile writer writes a profile, whatever it is asked: text, but no answer."""
    write_kit(small_kit(4), tmp_path / "kit.json")
    arguments = ["judge", str(tmp_path / "kit.json"), "--model", SAMPLE_ENCODER]
    found = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)
    assert {found[kind]["refused"] for kind in KINDS} == {4}
    texts = [record["text"] for record in read_journal(Path(found["answers"]))]
    assert len(texts) == 12
    assert all(text.strip() for text in texts)


def test_a_survey_outlives_its_process(kit_path: Path, tmp_path: Path) -> None:
    answers = {task.profile: task.answer for task in read_kit(kit_path).tasks}
    with httpx2.Client(follow_redirects=True) as browser:
        with serving(kit_path) as url:
            page = browser.post(f"{url}/begin", data={"agree": "yes", "worker": "w1"}).text
            for question in FILMS:
                page = browser.post(url + action(page), data={"choice": question.answer}).text
            for _ in range(4):
                page = browser.post(url + action(page), data={"choice": answers[profile(page)]}).text
        with serving(kit_path, int(url.rpartition(":")[2])):
            page = browser.get(f"{url}/survey").text
            assert "Question 8 of 13" in page
            for _ in range(5):
                page = browser.post(url + action(page), data={"choice": answers[profile(page)]}).text
            page = browser.post(url + action(page), data=ABOUT_ME).text
    code = re.search(r'class="code">([0-9A-F]{10})<', page)
    assert code

    done = CliRunner().invoke(app, ["results", str(kit_path), "--out", str(tmp_path / "out")], catch_exceptions=False)
    assert "1 participants, 9 answers" in done.stdout
    assert "| langptune | 3 | 3 | 0 | 100.00% | 43.85% to 100.00% |" in done.stdout
    with (tmp_path / "out" / "answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["worker"], row["code"], row["english"]) for row in rows} == {("w1", code.group(1), "Well")}


def action(html: str) -> str:
    found = re.search(r'action="([^"]+)"', html)
    assert found
    return found.group(1)


def profile(html: str) -> str:
    return html.split('class="text profile">')[1].split("</section>")[0]


@contextmanager
def serving(kit: Path, port: int = 0) -> Iterator[str]:
    """`langptune study serve` as a process, killed without a warning at the end of the block."""
    if not port:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    command = [sys.executable, "-m", "langptune.cli", "study", "serve", str(kit), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx2.get(f"{url}/status", timeout=5.0)
                break
            except httpx2.TransportError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()
