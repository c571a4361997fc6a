"""The whole system for tests: `langptune up` as a process, and the command line called as the shell would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from langptune.cli import main
from langptune.local.process import free_port
from langptune.local.settings import SERVICES


@dataclass(frozen=True)
class RunningSystem:
    """A ready `langptune up`: its process, and what it said of itself."""

    process: subprocess.Popen[str]
    gateway: str  # host:port
    page: str  # URL
    addresses: Mapping[str, str]  # by service
    pids: Mapping[str, int]  # by service, Redis included
    metrics: Mapping[str, int]  # port of the metrics, by service
    redis: str  # URL
    home: str


@dataclass(frozen=True)
class Done:
    """What one run of the command line left behind."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """What --json printed."""
        assert self.code == 0, self.stderr
        return json.loads(self.stdout)

    def error(self) -> dict[str, str]:
        """The error that --json printed."""
        assert self.code == 1, (self.stdout, self.stderr)
        assert "Traceback" not in self.stderr
        return dict(json.loads(self.stderr)["error"])


Run = Callable[..., Done]


@contextmanager
def running_system(home: Path) -> Iterator[RunningSystem]:
    """`langptune up` on free ports with the sample models; killed at the end if it is still there."""
    command = [sys.executable, "-m", "langptune.cli", "up", "--ports", "auto", "--json", "--home", str(home)]
    metrics = {service: free_port() for service in SERVICES}
    env = {**os.environ, **{f"LANGPTUNE_{service.upper()}_METRICS_PORT": str(port) for service, port in metrics.items()}}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        told = ""
        for line in process.stdout:
            told += line
            if line == "}\n":
                break
        assert told, process.stderr.read()
        ready = json.loads(told)
        yield RunningSystem(
            process, ready["gateway"], ready["page"], ready["addresses"], ready["pids"], metrics, ready["redis"], ready["home"]
        )
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The entry point, in this process."""

    def call(*arguments: str) -> Done:
        monkeypatch.setattr("sys.argv", ["langptune", *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        out, err = capsys.readouterr()
        return Done(int(str(code or 0)), out, err)

    return call
