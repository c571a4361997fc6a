"""The parts without a store of their own: the check of Redis's durability, the settings shown, a start that is broken off."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import redis.asyncio as redis

from services.gateway.durability import warn_if_weak
from tests.support.processes import ROOT, start_service


async def test_a_redis_that_may_lose_an_acknowledged_write_is_named(client: redis.Redis) -> None:
    assert await warn_if_weak(client) == []
    await client.config_set("appendfsync", "everysec")
    try:
        assert await warn_if_weak(client) == ["appendfsync everysec"]
    finally:
        await client.config_set("appendfsync", "always")


def _start(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.gateway", *arguments]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **settings}
    return subprocess.run(command, cwd=Path("/"), env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_settings_are_shown_without_their_secrets() -> None:
    shown = _start("--print-config", LANGPTUNE_REDIS_URL="redis://:hunter2@example:6379/0", LANGPTUNE_HISTORY_SENT="7")
    assert json.loads(shown.stdout)["history_sent"] == 7
    assert "hunter2" not in shown.stdout


def test_a_gateway_that_would_let_strangers_in_does_not_start() -> None:
    stopped = _start(LANGPTUNE_HOST="0.0.0.0")
    assert stopped.returncode == 2
    assert "Set LANGPTUNE_GATEWAY_AUTH=jwt" in stopped.stderr
    assert "Traceback" not in stopped.stderr


def test_a_bad_setting_stops_the_start_with_a_sentence() -> None:
    stopped = _start(LANGPTUNE_HISTORY_SENT="1001")
    assert stopped.returncode == 2
    assert "LANGPTUNE_HISTORY_SENT" in stopped.stderr
    assert "Traceback" not in stopped.stderr


def test_a_gateway_that_is_stopped_before_it_has_come_up_ends_without_a_defect(tmp_path: Path) -> None:
    """It asks for its keys first; here nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        source = f"http://127.0.0.1:{silent.getsockname()[1]}/keys"
        settings = {"LANGPTUNE_GATEWAY_AUTH": "jwt", "LANGPTUNE_GATEWAY_JWKS": source}
        starting = start_service("gateway", tmp_path, settings, wait=0)
        try:
            connection, _ = silent.accept()
            with connection:
                assert starting.terminate() == 0, starting.log()
        finally:
            starting.kill()
    assert "Traceback" not in starting.log()
