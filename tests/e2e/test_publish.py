"""Nothing is dropped: ten publishes and rollbacks under load, no failed call, no answer that mixes two releases."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.publish import KINDS, QUICK, measure


@pytest.mark.timeout(900)
async def test_ten_moves_under_load_drop_nothing(tmp_path: Path) -> None:
    found = await measure(QUICK, tmp_path)
    assert found["moves"] == 10
    assert (found["failed_calls"], found["errors"], found["mixed_versions"]) == (0, [], 0)
    assert found["verified_at_the_end"]
    for kind in KINDS:
        assert found["by_call"][kind]["calls"] >= 20
    assert found["p95_ms_during_publish"] is not None
