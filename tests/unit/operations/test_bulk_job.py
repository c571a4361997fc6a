"""The Indexed Job of infra/bulk says what the command line understands, and one shard a pod."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from langptune.operations.shards import Shard
from tests.support.k8s.schema import VERSIONS, schema
from tests.support.system import command_line

FOLDER = Path(__file__).parents[3] / "infra" / "bulk"
WHOLE = yaml.safe_load((FOLDER / "profiles-job.yaml").read_text())
JOB = WHOLE["spec"]


def test_every_pod_has_a_shard_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = JOB["template"]["spec"]["containers"]
    shard = container["args"][container["args"].index("--shard") + 1]
    assert JOB["completionMode"] == "Indexed"
    shards = set()
    for index in range(JOB["completions"]):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        shards.add(Shard.parse(shard))
    assert shards == {Shard(index, JOB["completions"]) for index in range(JOB["completions"])}


def test_the_command_line_takes_its_arguments(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Against no gateway: the arguments are understood when it is the gateway that is missing."""
    (container,) = JOB["template"]["spec"]["containers"]
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    monkeypatch.setenv("LANGPTUNE_GATEWAY", "127.0.0.1:9")
    assert command_line(monkeypatch, capsys)(*container["args"], "--patience", "0").error()["code"] == "UNAVAILABLE"
    assert (FOLDER / "Dockerfile").read_text().rstrip().endswith('ENTRYPOINT ["langptune"]')


@pytest.mark.parametrize("version", VERSIONS)
def test_the_published_schemas_know_every_field(version: str) -> None:
    policy = yaml.safe_load((FOLDER / "network-policy.yaml").read_text())
    assert schema([WHOLE, policy], version) == []
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= JOB["template"]["metadata"]["labels"].items()
