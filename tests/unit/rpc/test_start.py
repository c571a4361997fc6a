"""A service that cannot start: what an operator can mend is told in a sentence, a defect keeps its trace."""

from __future__ import annotations

import subprocess
import sys

import pytest

from langptune.local.process import free_port

SCRIPT = """
import sys
from langptune.errors import FailedPrecondition
from langptune.rpc import run
from langptune.settings import ServiceSettings

class Failing:
    name = "failing"
    proto_services = ()
    async def start(self, server):
        raise {error}
    async def stop(self):
        pass

run(ServiceSettings(), Failing(), int(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("error", "code", "sentence", "trace"),
    [
        (
            "FailedPrecondition('the model folder x does not exist')",
            2,
            "failing: cannot start: the model folder x does not",
            False,
        ),
        ("ZeroDivisionError('a defect')", 1, "ZeroDivisionError: a defect", True),
    ],
)
def test_a_failed_start(error: str, code: int, sentence: str, trace: bool) -> None:
    command = [sys.executable, "-c", SCRIPT.format(error=error), str(free_port())]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == code
    assert sentence in ended.stderr
    assert ("Traceback" in ended.stderr) is trace
