"""The boundaries of the code base: who may import whom, and what the shared package may pull in."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_import_contracts_hold() -> None:
    """The contracts stand in pyproject.toml under [tool.importlinter]."""
    result = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


def test_the_shared_package_and_the_gateway_import_no_torch() -> None:
    code = (
        "import sys, langptune.client, langptune.weights, langptune.rpc, langptune.text, services.gateway.server;"
        "sys.exit(','.join(m for m in ('torch', 'transformers', 'sentence_transformers') if m in sys.modules) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
