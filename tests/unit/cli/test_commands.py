"""The command line through its entry point: help, what it loads, and how errors look."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jwt
import pytest

from langptune.local.process import free_port
from services.gateway.identity.keys import KeySet
from services.gateway.identity.tokens import TokenChecker
from tests.support.system import Run, command_line

COMMANDS = [
    "up",
    "demo",
    "data prepare",
    "import items",
    "import interactions",
    "profile get",
    "profile refresh",
    "profile edit",
    "profile history",
    "profile restore",
    "profile evidence",
    "profile avoid add",
    "profile avoid remove",
    "profile avoid list",
    "recommend",
    "refresh-queue list",
    "refresh-queue replay",
    "train start",
    "train watch",
    "train list",
    "train cancel",
    "train resume",
    "releases list",
    "releases publish",
    "releases rollback",
    "releases gate",
    "releases verify",
    "releases history",
    "releases prune",
    "evaluate",
    "plan capacity",
    "backup",
    "bulk profiles",
    "bulk items",
    "restore",
    "token",
    "keys",
    "account export",
    "account delete",
]


@pytest.fixture
def langptune(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return command_line(monkeypatch, capsys)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_of_every_command_has_an_example(langptune: Run, command: str) -> None:
    shown = langptune(*command.split(), "--help")
    assert shown.code == 0
    assert "Example: langptune" in " ".join(shown.stdout.replace("│", " ").split())


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from langptune.cli.app import app\n"
        "heavy = {'torch', 'transformers', 'scipy', 'pyarrow', 'matplotlib', 'sentence_transformers', 'redis', 'numpy', 'jwt'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_an_absent_gateway_is_one_sentence_with_a_hint(langptune: Run) -> None:
    failed = langptune("recommend", "u1", "--gateway", f"127.0.0.1:{free_port()}")
    assert failed.code == 1
    assert failed.stdout == ""
    assert failed.stderr.startswith("error: ")
    assert "langptune up" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_error_is_json_where_json_was_asked_for(langptune: Run) -> None:
    failed = langptune("profile", "get", "u1", "--json", "--gateway", "nowhere")
    told = failed.error()
    assert (told["code"], told["field"]) == ("INVALID_ARGUMENT", "--gateway")


@pytest.mark.parametrize(
    ("kind", "lines", "said"),
    [
        ("items", ['{"item_id": "i1", "title": "Alien"}', '{"item_id": "i2", '], "line 2: JSON: "),
        ("items", ['{"item_id": "i1", "title": ""}'], "line 1: title: is required"),
        ("items", ['{"item_id": "i1", "title": "A", "price": NaN}'], "line 1: JSON: NaN is no JSON number"),
        ("items", ['{"item_id": "i1", "title": "A", "colour": "red"}'], "line 1: colour: is no field"),
        ("items", ['{"item_id": "i1", "title": "A", "attributes": [1]}'], "line 1: attributes: must be an object, not [1]"),
        ("items", ['{"item_id": "i1", "title": "A", "attributes": {"a b": 1}}'], "line 1: attributes: 'a b' is no name"),
        ("items", ['{"item_id": "i1", "title": "A", "attributes": {"x": null}}'], "line 1: attributes.x: must be"),
        ("items", ["", '{"item_id": "i 1", "title": "A"}'], "line 2: item_id: must be"),
        ("interactions", ['{"user_id": "u", "item_id": "i", "rating": "5"}'], "line 1: rating: must be number"),
        ("interactions", ['{"user_id": "u", "item_id": "i", "rating": 6}'], "line 1: rating: must be a number from 0 to 5"),
        ("interactions", ['{"user_id": "u", "item_id": "i", "rating": 5, "time_ms": 1e400}'], "line 1: time_ms: must be"),
        ("interactions", ["[1, 2]"], "line 1: JSON: must be an object"),
    ],
)
def test_a_malformed_line_is_named_before_anything_is_sent(
    langptune: Run, tmp_path: Path, kind: str, lines: list[str], said: str
) -> None:
    file = tmp_path / "given.jsonl"
    file.write_text("\n".join(lines) + "\n")
    failed = langptune("import", kind, str(file), "--gateway", f"127.0.0.1:{free_port()}")  # nobody is there to be sent to
    assert failed.code == 1
    assert f"given.jsonl {said}" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_file_that_is_not_there_is_named(langptune: Run, tmp_path: Path) -> None:
    failed = langptune("import", "items", str(tmp_path / "none.jsonl"))
    assert failed.code == 1
    assert "none.jsonl" in failed.stderr


def test_a_token_is_made_with_the_gateways_secret(langptune: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGPTUNE_GATEWAY_JWT_SECRET", "a secret of thirty-two bytes, or more")
    minted = langptune("token", "u1", "--scope", "operator", "--scope", "users", "--hours", "1", "--json").json()["token"]
    claims = jwt.decode(minted, "a secret of thirty-two bytes, or more", algorithms=["HS256"], audience="langptune")
    assert (claims["sub"], claims["iss"], claims["scope"]) == ("u1", "langptune", "operator users")
    assert claims["exp"] - claims["iat"] == 3_600
    assert langptune("token", "u1", "--scope", "everything", "--json").error()["field"] == "--scope"
    monkeypatch.setenv("LANGPTUNE_GATEWAY_JWT_SECRET", "short")
    assert langptune("token", "u1", "--json").error()["field"] == "LANGPTUNE_GATEWAY_JWT_SECRET"


async def test_a_system_without_an_identity_provider_signs_its_own_tokens(langptune: Run, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    made = langptune("keys", str(folder))
    assert made.code == 0
    key = folder / "signing-key.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    scoped = ("u1", "--scope", "operator", "--key", str(key), "--json")
    minted = langptune("token", *scoped).json()["token"]
    keys = KeySet(str(folder / "jwks.json"))
    await keys.load()
    checker = TokenChecker(keys, issuer="langptune", audience="langptune", leeway=0)
    caller = await checker.caller([("authorization", f"Bearer {minted}")])
    assert (caller.subject, caller.scopes) == ("u1", {"operator"})
    again = langptune("keys", str(folder))
    assert (again.code, "File exists" in again.stderr) == (1, True)
    assert langptune("token", "u1", "--key", str(folder / "jwks.json"), "--json").error()["field"] == "--key"
