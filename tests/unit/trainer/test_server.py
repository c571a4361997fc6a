"""A start that is broken off."""

import socket
from pathlib import Path

from tests.support.processes import start_service


def test_a_trainer_that_is_stopped_before_it_has_come_up_ends_without_a_defect(tmp_path: Path) -> None:
    """It asks its store first; here nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        address = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        starting = start_service("trainer", tmp_path, {"LANGPTUNE_REDIS_URL": address}, wait=0)
        try:
            connection, _ = silent.accept()
            with connection:
                assert starting.terminate() == 0, starting.log()
        finally:
            starting.kill()
    assert "Traceback" not in starting.log()
