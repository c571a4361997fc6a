"""What every launcher promises, held against both: processes of this machine, and Jobs in a stand-in cluster.

A worker is a process that does nothing: on this machine a shell script in the place of Python, in the cluster a pod's status.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from langptune.errors import FailedPrecondition
from services.trainer.jobs.kubernetes_job import job_name
from services.trainer.jobs.launcher import Launcher, Life, Sighting
from services.trainer.jobs.local_launcher import LocalLauncher
from tests.integration.launchers.conftest import StartLauncher
from tests.support.kubernetes_world import KubernetesWorld

_SCRIPT = """#!/bin/sh
[ -e {folder}/deaf ] && trap '' TERM
while [ ! -e {folder}/code ]; do sleep 0.02; done
exit $(cat {folder}/code)
"""


class Place(Protocol):
    """Where workers run, and what a test can do to the one that was launched."""

    async def launcher(self) -> Launcher:
        """Another trainer's."""

    def has_started(self) -> None: ...
    def ends(self, code: int) -> None: ...
    def is_killed(self) -> None: ...
    def ignores_being_asked(self) -> None: ...


class ThisMachine:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._launchers: list[Launcher] = []

    async def launcher(self) -> Launcher:
        self._launchers.append(LocalLauncher(self._folder / "jobs", threads=1))
        return self._launchers[-1]

    def has_started(self) -> None:
        """It has."""

    def ends(self, code: int) -> None:
        (self._folder / "partial").write_text(str(code))
        (self._folder / "partial").rename(self._folder / "code")

    def is_killed(self) -> None:
        os.kill(int((self._folder / "jobs" / "j" / "worker.lock").read_text()), signal.SIGKILL)

    def ignores_being_asked(self) -> None:
        (self._folder / "deaf").touch()

    async def leave_nothing(self) -> None:
        (self._folder / "code").write_text("0")
        for launcher in self._launchers:
            await _until(launcher, Life.GONE)


class Cluster:
    def __init__(self, cluster: KubernetesWorld, start: StartLauncher) -> None:
        self._cluster = cluster
        self._start = start
        self._job = job_name("j", 1)

    async def launcher(self) -> Launcher:
        return await self._start()

    def has_started(self) -> None:
        self._cluster.run(self._job)

    def ends(self, code: int) -> None:
        self._cluster.end(self._job, code=code)

    def is_killed(self) -> None:
        self._cluster.end(self._job, code=137)

    def ignores_being_asked(self) -> None:
        self._cluster.obeys = False


@pytest.fixture(params=["this machine", "a cluster"])
async def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cluster: KubernetesWorld,
    start_launcher: StartLauncher,
) -> AsyncIterator[Place]:
    if request.param == "a cluster":
        yield Cluster(cluster, start_launcher)
        return
    script = tmp_path / "python"
    script.write_text(_SCRIPT.format(folder=tmp_path))
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    machine = ThisMachine(tmp_path)
    yield machine
    await machine.leave_nothing()


async def _until(launcher: Launcher, life: Life) -> Sighting:
    for _ in range(1_000):
        seen = await launcher.see("j")
        if seen.life is life:
            return seen
        await asyncio.sleep(0.02)
    raise AssertionError(f"not {life}: {seen}")


async def _launched(place: Place) -> Launcher:
    launcher = await place.launcher()
    await launcher.launch("j", 1, 1)
    place.has_started()
    await _until(launcher, Life.RUNNING)
    return launcher


async def test_a_job_that_was_never_launched_has_no_worker(place: Place) -> None:
    launcher = await place.launcher()
    assert await launcher.see("j") == Sighting(Life.GONE, "is gone")
    await launcher.stop("j")
    await launcher.kill("j")


async def test_a_job_has_one_worker_at_most_whoever_launches(place: Place) -> None:
    launcher = await _launched(place)
    later = await place.launcher()
    for each in (launcher, later):
        assert (await each.see("j")).life is Life.RUNNING
        with pytest.raises(FailedPrecondition, match="still running"):
            await each.launch("j", 2, 1)


async def test_a_worker_that_is_asked_ends(place: Place) -> None:
    launcher = await _launched(place)
    await launcher.stop("j")
    await _until(launcher, Life.GONE)


async def test_a_worker_that_does_not_heed_is_ended(place: Place) -> None:
    place.ignores_being_asked()
    launcher = await _launched(place)
    await asyncio.sleep(0.2)  # the script sets its trap
    await launcher.stop("j")
    await asyncio.sleep(0.2)
    assert (await launcher.see("j")).life is Life.RUNNING
    await launcher.kill("j")
    await _until(launcher, Life.GONE)


async def test_how_a_worker_ended_is_told(place: Place) -> None:
    launcher = await _launched(place)
    place.ends(3)
    assert (await _until(launcher, Life.GONE)).why == "ended with exit code 3"
    assert "log" in launcher.log_of("j")


async def test_a_killed_worker_is_told_and_another_attempt_can_be_launched(place: Place) -> None:
    launcher = await _launched(place)
    place.is_killed()
    assert (await _until(launcher, Life.GONE)).why == "was ended by signal 9"
    await launcher.launch("j", 2, 1)
