"""ZeRO-2 and ZeRO-3 on two CPU processes against one process of plain torch: losses, norms, state handed over, saved models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.integration.learning.zero_child import relative
from tests.support.micro_embedder import make_micro_embedder
from tests.support.processes import ROOT

pytestmark = pytest.mark.timeout(600)
CASES = [*(f"{stage} {each}" for stage in "23" for each in ("lora", "last_k", "full")), "2 offload lora"]
TOLERANCE = 1e-4  # relative; two optimizer steps after each other, in another order of summation


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("zero")
    model = make_micro_embedder(folder / "embedder")
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    child = ["tests.integration.learning.zero_child", str(folder), str(model)]
    done = subprocess.run(
        [*together, *child], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_a_policy_learns_as_in_one_process(found: Any, case: str) -> None:
    """With a KL term and rewards standardised over the batch, both of which need the rows of all processes."""
    ours, theirs = found[case], found[f"alone {case.split()[-1]}"]
    for update in ("one", "two"):
        for figure in ("losses", "norms", "behaviour"):
            assert relative(ours[update][figure], theirs[update][figure]) < TOLERANCE, (update, figure)
    assert ours["two"]["kl"] == pytest.approx(theirs["two"]["kl"], rel=1e-3)
    assert relative(ours["saved"], theirs["saved"]) < TOLERANCE


@pytest.mark.parametrize("case", [f"{name} cl {cached}" for name in ("2", "3", "2 offload") for cached in (False, True)])
def test_an_embedder_learns_as_in_one_process(found: Any, case: str) -> None:
    """Each process embeds its half of the batch; the negatives are those of both."""
    assert relative(found[case], found["alone cl"]) < TOLERANCE
