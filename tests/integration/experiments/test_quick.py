"""The quick preset through the command line: every system, killed on the way, resumed, rendered again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.systems import SYSTEMS
from experiments.tables import EXPERIMENTS, render

COMMAND = (sys.executable, "-m", "langptune.cli", "experiment")
DEADLINE = 600.0  # seconds; a machine may be many times slower than ours


def _start(out: Path, processes: int) -> subprocess.Popen[str]:
    tables = [part for name in ("table1", "table2", "table3") for part in ("--table", name)]
    arguments = (*COMMAND, "all", *tables, "--preset", "quick", "--seeds", "1", "--processes", str(processes), "--out", str(out))
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def _finished(out: Path) -> dict[str, float]:
    """Names of finished runs, and when."""
    return {file.parent.name: file.stat().st_mtime for file in (out / "runs").glob("*/config.json")}


def _wait_for_a_result(out: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + DEADLINE
    while not _finished(out):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)


def _members(group: int) -> list[int]:
    """Processes of a session that are alive."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == group and fields[0] not in "ZX":
            found.append(int(place.parent.name))
    return found


@pytest.mark.timeout(900)
def test_killed_resumed_and_rendered(tmp_path: Path) -> None:
    """SIGKILL ends the workers, too; the second run keeps what the first had finished; rendering computes nothing."""
    first = _start(tmp_path, 1)
    _wait_for_a_result(tmp_path, first)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    end = time.monotonic() + 60
    while _members(first.pid):
        assert time.monotonic() < end, "workers outlive the process that started them"
        time.sleep(0.1)
    kept = _finished(tmp_path)

    second = _start(tmp_path, 2)
    output, errors = second.communicate(timeout=DEADLINE)
    assert second.returncode == 0, errors
    assert f"{len(kept)} of " in errors
    assert "left" in errors
    done = _finished(tmp_path)
    assert {name: done[name] for name in kept} == kept
    systems = {name.rpartition("-")[0] for name in done}
    assert systems == set(SYSTEMS)
    assert not list((tmp_path / "runs").glob(".*")), "something was left behind"

    table = tmp_path / "table3" / "table.md"
    for about in (SYSTEMS["lightgcn"], SYSTEMS["langptune"]):
        assert f"| {about.title} |" in table.read_text()
        assert about.title in output
    before = table.read_text()
    table.unlink()
    assert render(tmp_path / "table3", EXPERIMENTS).read_text() == before
    assert _finished(tmp_path) == done
