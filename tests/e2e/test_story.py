"""The main job through the command line, on real processes: import, profile, ranking, edit, training, evaluation, releases."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from langptune.data.dataset import Dataset
from langptune.local.process import free_port
from samples.dataset import make_dataset
from tests.support.metrics import documented, scraped
from tests.support.processes import ROOT
from tests.support.system import Done, Run, RunningSystem, command_line, running_system

TINY_JOB = (
    *("--cl-batches", "1", "--rlso-batches", "1", "--final-cl-batches", "0", "--validation-users", "4"),
    *("--set", "rlso.histories=2", "--set", "rlso.samples=2", "--set", "contrastive.batch_size=4"),
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("world"), items=120, users=80)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    with running_system(tmp_path_factory.mktemp("home")) as running:
        yield running
        running.process.send_signal(signal.SIGINT)  # Ctrl-C: all is stopped in order, and that is no failure
        _, said = running.process.communicate(timeout=90)
        assert (running.process.returncode, said.strip()) == (0, "Stopped.")
        assert [pid for pid in running.pids.values() if Path(f"/proc/{pid}").exists()] == []


@pytest.fixture
def lp(system: RunningSystem, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command against the running gateway, with --json."""
    call = command_line(monkeypatch, capsys)
    monkeypatch.setenv("LANGPTUNE_GATEWAY", system.gateway)
    for service, address in system.addresses.items():
        monkeypatch.setenv(f"LANGPTUNE_{service.upper()}_ADDRESS", address)

    def run(*arguments: str) -> Done:
        return call(*arguments, "--json")

    return run


def test_the_whole_story(lp: Run, world: Dataset, tmp_path: Path) -> None:
    session = world.sessions("test")[0]
    user = session.user_id
    import_everything(lp, world)
    read_and_edit_the_profile(lp, user, {entry.item.item_id for entry in session.history})
    candidate = train_and_evaluate(lp, world, tmp_path / "evaluation.json")
    publish_and_roll_back(lp, user, candidate)


def import_everything(lp: Run, world: Dataset) -> None:
    folder = str(world.folder)
    items = lp("import", "items", folder).json()
    assert (items["imported"], items["rejected"], items["catalogue_size"]) == (120, 0, 120)
    interactions = lp("import", "interactions", folder).json()
    assert (interactions["recorded"], interactions["rejected"], interactions["users"]) == (320, 0, 80)
    assert lp("import", "items", folder).json()["unchanged"] == 120
    assert lp("import", "interactions", folder).json()["unchanged"] == 320


def read_and_edit_the_profile(lp: Run, user: str, seen: set[str]) -> None:
    assert lp("recommend", user).json()["basis"] == "history"
    assert lp("recommend", "nobody").json()["basis"] == "popularity"
    assert lp("profile", "get", user).error()["code"] == "NOT_FOUND"

    written = lp("profile", "refresh", user, "--seed", "1").json()["profile"]
    assert (written["revision"], written["origin"], written["versions"]["release_id"]) == (1, "generated", "r1")
    ranking = lp("recommend", user, "-k", "100").json()
    assert ranking["basis"] == "profile"
    assert not seen & {place["item"]["item_id"] for place in ranking["items"]}

    tried = lp("profile", "preview", user, "The user enjoys western films and desert settings.", "-k", "100").json()
    assert (tried["profile_revision"], len(tried["items"])) == (1, 100)
    edited = lp("profile", "edit", user, "--text", "The user enjoys western films and desert settings.").json()
    assert (edited["revision"], edited["origin"]) == (2, "edited")
    followed = lp("recommend", user, "-k", "100").json()
    assert followed["profile_revision"] == 2
    previewed = [place["item"]["item_id"] for place in tried["items"]]
    assert previewed == [place["item"]["item_id"] for place in followed["items"]]
    assert [place["item"]["item_id"] for place in followed["items"]] != [place["item"]["item_id"] for place in ranking["items"]]

    conflict = lp("profile", "edit", user, "--text", "Too late.", "--etag", written["etag"]).error()
    assert (conflict["code"], conflict["etag"]) == ("ABORTED", edited["etag"])
    beside = lp("profile", "refresh", user, "--seed", "1").json()
    assert (beside["profile"], beside["suggestion"]["text"]) == (edited, written["text"])
    changed = {part["kind"]: part["text"] for part in lp("profile", "diff", user, "1", "2").json()}
    assert {"removed", "added"} <= changed.keys()
    restored = lp("profile", "restore", user, "1").json()
    assert (restored["revision"], restored["origin"], restored["text"]) == (3, "restored", written["text"])
    assert [revision["revision"] for revision in lp("profile", "history", user).json()] == [3, 2, 1]


def train_and_evaluate(lp: Run, world: Dataset, out: Path) -> str:
    plan = lp("train", "start", str(world.folder), *TINY_JOB, "--dry-run").json()
    assert (plan["cl_updates"], plan["rlso_updates"]) == (1, 1)
    assert plan["encoder_trainable_parameters"] == plan["encoder_parameters"] > 0
    assert [stage["zero_stage"] for stage in plan["memory"]] == [0, 1, 2, 3]
    assert lp("train", "list").json() == []  # a dry run starts nothing
    job = lp("train", "start", str(world.folder), *TINY_JOB, "--watch").json()
    assert (job["state"], job["steps_done"], job["steps_total"], job["release_id"]) == ("succeeded", 2, 2, "r2")
    assert [each["job_id"] for each in lp("train", "list").json()] == [job["job_id"]]
    report = lp(
        *("evaluate", str(world.folder), "--release", "r2", "--against", "r1", "--users", "8", "--samples", "2"),
        *("--out", str(out)),
    ).json()
    assert report["users"] == 8
    assert set(report["releases"]) == {"r1", "r2"}
    assert set(report["baselines"]) == {"Random", "Most Popular"}
    assert 0.0 <= report["comparison"]["ndcg"]["p_value"] <= 1.0
    assert len(json.loads(out.read_text())["per_user"]["r2"]["ndcg"]) == 8
    return str(job["release_id"])


def publish_and_roll_back(lp: Run, user: str, candidate: str) -> None:
    assert lp("releases", "publish", candidate, "--expected", "r7").error()["code"] == "ABORTED"
    assert lp("releases", "gate", candidate).json()["verdict"] == "unknown"  # four users prove nothing
    assert lp("releases", "publish", candidate, "--expected", "r1").error()["reason"] == "GATE_CLOSED"
    override = ("--override-reason", "four users are enough for a test", "--actor", "ann")
    published = lp("releases", "publish", candidate, "--expected", "r1", *override).json()
    assert (published["release"]["live"], published["previous_release_id"]) == (True, "r1")
    assert lp("recommend", user).json()["versions"]["release_id"] == candidate
    assert lp("profile", "refresh", user, "--overwrite-edited").json()["profile"]["versions"]["release_id"] == candidate
    verified = lp("releases", "verify").json()
    assert [(check["kind"], check["problems"]) for check in verified["replicas"]] == [("encoder", []), ("decoder", [])]
    encoder = verified["replicas"][0]
    assert encoder["golden_log_prob"] == pytest.approx(encoder["expected_log_prob"], abs=1e-3)  # the trainer's own
    move = lp("releases", "history").json()[0]
    assert (move["release_id"], move["actor"], move["override_reason"]) == (candidate, "ann", "four users are enough for a test")
    assert lp("releases", "rollback").json()["release"]["release_id"] == "r1"
    assert lp("recommend", user).json()["versions"]["release_id"] == "r1"
    assert [(each["release_id"], each["live"]) for each in lp("releases", "list").json()] == [("r2", False), ("r1", True)]


def test_bad_input_is_refused_by_name(lp: Run, tmp_path: Path) -> None:
    assert lp("recommend", "two words").error()["field"] == "user_id"
    assert lp("profile", "edit", "u1", "--text", "x" * 1_000_000).error()["field"] == "text"
    assert lp("profile", "edit", "u1", "--text", "a\x00b").error()["field"] == "text"
    assert lp("releases", "publish", "r99").error()["code"] == "NOT_FOUND"
    assert lp("train", "start", str(tmp_path)).error()["code"] == "FAILED_PRECONDITION"
    assert lp("train", "watch", "no-job").error()["code"] == "NOT_FOUND"
    unknown = lp("train", "start", str(tmp_path), "--set", "rlso.colour=red").error()
    assert unknown["code"] in ("INVALID_ARGUMENT", "FAILED_PRECONDITION")


def test_the_services_export_what_operations_md_defines_and_nothing_else(system: RunningSystem) -> None:
    """With tests/unit/shared/test_monitoring.py: every metric of a dashboard or an alert is one that a service exports."""
    exported = {name: kind for port in system.metrics.values() for name, kind in scraped(port).items()}
    assert sorted(exported) == sorted(documented((ROOT / "docs" / "operations.md").read_text()))
    assert {kind for name, kind in exported.items() if name.endswith("_total")} == {"counter"}
    per_service = {service: set(scraped(port)) for service, port in system.metrics.items()}
    rpc = {name for name in exported if name.startswith("grpc_server_")}
    assert all(rpc <= names for names in per_service.values())
    for service in ("gateway", "encoder", "decoder"):
        assert all(name.startswith(f"langptune_{service}_") for name in per_service[service] - rpc)


def test_a_backup_of_the_living_system_brings_everything_back(
    lp: Run, system: RunningSystem, world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back up, restore into an empty home, start there: the same profile, ranking, releases and jobs are served."""
    user = world.sessions("test")[0].user_id
    asked = (("profile", "get", user), ("profile", "history", user), ("recommend", user), ("releases", "list"), ("train", "list"))
    before = [lp(*question).json() for question in asked]
    backup, home = tmp_path / "backup", tmp_path / "home"
    monkeypatch.setenv("LANGPTUNE_REDIS_URL", system.redis)
    taken = lp("backup", str(backup), "--weights-uri", f"{system.home}/weights").json()
    assert taken["items"] == 120
    assert lp("backup", str(backup)).error()["reason"] == "NOT_EMPTY"
    assert lp("restore", str(backup)).error()["reason"] == "NOT_EMPTY"  # the living system's Redis

    monkeypatch.delenv("LANGPTUNE_REDIS_URL")
    monkeypatch.setenv("LANGPTUNE_REDIS_PORT", str(free_port()))
    assert lp("restore", str(backup), "--home", str(home)).json()["keys"] == taken["keys"]
    with running_system(home) as restored:
        monkeypatch.setenv("LANGPTUNE_GATEWAY", restored.gateway)
        assert lp("restore", str(backup), "--items").json()["catalogue_size"] == 120
        assert [lp(*question).json() for question in asked] == before
        assert lp("releases", "publish", "r2", "--override-reason", "its weights are there, too").json()["release"]["live"]

    damaged = backup / "state.jsonl.gz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert lp("restore", str(backup), "--home", str(tmp_path / "third")).error()["reason"] == "DAMAGED"
