"""A full disk (here: a file size limit) is told as a typed error, whoever writes; and no second worker is started for a job."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from langptune.errors import FailedPrecondition
from services.trainer.jobs.launcher import Life
from services.trainer.jobs.local_launcher import LocalLauncher
from services.trainer.learning.checkpoint import Checkpoints
from services.trainer.worker.storage import writing

_LIMIT = 100_000  # bytes


@pytest.fixture
def full_disk() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LIMIT, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _checkpoint(folder: Path) -> None:
    Checkpoints(folder).save(2, {"w": torch.zeros(_LIMIT)})


def _safetensors(folder: Path) -> None:
    save_file({"w": torch.zeros(_LIMIT)}, folder / "model.safetensors")


def _file(folder: Path) -> None:
    (folder / "file").write_bytes(bytes(2 * _LIMIT))


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("write", [_checkpoint, _safetensors, _file])
def test_a_full_disk_is_a_sentence(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with (
        pytest.raises(FailedPrecondition, match=r"^a model cannot be written below .*: ") as refused,
        writing("a model", tmp_path),
    ):
        write(tmp_path)
    assert refused.value.reason == "STORAGE"
    assert Checkpoints(tmp_path).load() is None


async def test_a_job_has_one_worker_at_most(tmp_path: Path) -> None:
    launcher = LocalLauncher(tmp_path, threads=1)
    (tmp_path / "j").mkdir()
    assert (await launcher.see("j")).life is Life.GONE
    held = os.open(tmp_path / "j" / "worker.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert (await launcher.see("j")).life is Life.RUNNING
    with pytest.raises(FailedPrecondition, match="still running"):
        await launcher.launch("j", 2, 1)
    os.close(held)
    assert (await launcher.see("j")).life is Life.GONE


def test_no_process_of_a_finished_job_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks about the first job once it has ended; the next one's start takes its process away."""
    monkeypatch.setattr(sys, "executable", "/bin/true")
    launcher = LocalLauncher(tmp_path, threads=1)
    pids = []
    for job in ("first", "second"):
        asyncio.run(launcher.launch(job, 1, 1))
        pids.append(int((tmp_path / job / "worker.lock").read_text()))
        os.waitid(os.P_PID, pids[-1], os.WEXITED | os.WNOWAIT)  # it has ended, and is left as it is
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
    os.kill(pids[1], 0)
    assert asyncio.run(launcher.see("second")).life is Life.GONE


async def test_a_jobs_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("a file")
    with pytest.raises(FailedPrecondition, match="cannot be written"):
        await LocalLauncher(tmp_path / "jobs", threads=1).launch("j", 1, 1)
