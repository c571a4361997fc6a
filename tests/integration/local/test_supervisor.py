"""The supervisor with real processes: what it starts it stops, and what goes wrong it names."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from langptune.errors import FailedPrecondition
from langptune.local import LocalSettings, LocalSystem, ServiceDied
from langptune.local.process import Child
from tests.support.system import running_system


def running(pid: int) -> bool:
    """Whether the process is there, and no zombie (whose command line is empty)."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def alive(pids: Mapping[str, int]) -> list[str]:
    return [name for name, pid in pids.items() if running(pid)]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether `condition` came true in time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_a_killed_supervisor_leaves_no_orphans(tmp_path: Path) -> None:
    with running_system(tmp_path) as system:
        process, pids = system.process, system.pids
        assert set(pids) == {"redis", "encoder", "decoder", "trainer", "gateway"} == set(alive(pids))
        process.send_signal(signal.SIGKILL)
        assert until(lambda: alive(pids) == [], 30), alive(pids)


def test_a_service_that_is_killed_is_named_and_the_rest_is_stopped(tmp_path: Path) -> None:
    with running_system(tmp_path) as system:
        process, pids = system.process, system.pids
        os.kill(pids["decoder"], signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "decoder ended with exit code -9" in said
        assert "Traceback" not in said
        assert alive(pids) == []


async def test_a_port_in_use_is_said_before_any_service_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = LocalSettings.load(home=tmp_path).with_free_ports().model_copy(update={"decoder_port": port})
        system = LocalSystem(settings)
        with pytest.raises(FailedPrecondition, match=f"decoder cannot listen on 127.0.0.1:{port}"):
            await system.__aenter__()
        assert system.pids() == {}


async def test_a_service_that_does_not_come_up_is_named_with_its_last_words(tmp_path: Path) -> None:
    missing = tmp_path / "no-such-model"
    settings = LocalSettings.load(home=tmp_path / "home", profile_model=str(missing)).with_free_ports()
    with pytest.raises(ServiceDied, match=r"encoder ended with exit code 2: .*no-such-model does not exist") as caught:
        await LocalSystem(settings).__aenter__()
    assert caught.value.metadata == {"service": "encoder"}


async def test_one_home_has_one_system(tmp_path: Path) -> None:
    from langptune.local.process import exclusive

    with exclusive(tmp_path), pytest.raises(FailedPrecondition, match="in use by another"):
        await LocalSystem(LocalSettings.load(home=tmp_path).with_free_ports()).__aenter__()


STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


async def test_a_child_that_ignores_sigterm_is_killed_with_what_it_started(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = Child("stubborn", [sys.executable, "-c", STUBBORN], log)
    await child.start()
    assert until(lambda: log.read_text().endswith("\n"), 20)
    grandchild = int(log.read_text())
    await child.stop(grace=0.2)
    assert child.exit_code == -signal.SIGKILL
    assert until(lambda: not running(grandchild), 5)
