"""Settings and statistics of the benchmark `sample_efficiency`."""

from __future__ import annotations

import pytest

from benchmarks.sample_efficiency import SETTINGS, half_width
from services.trainer.learning.presets import preset


def test_half_width() -> None:
    """Of (1, 2, 3): s = 1, t(0.975; 2) = 4.3027, so 4.3027 / sqrt(3) = 2.4841."""
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(2.4841, abs=1e-4)
    assert half_width([1.0]) == 0.0


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_sample_efficiency_are_valid(name: str) -> None:
    """Each generates as many rollouts a batch as the preset, so that batches are comparable."""
    base, other = preset("sample").rlso, preset("sample", {"rlso": SETTINGS[name]}).rlso
    assert other.histories * other.samples == base.histories * base.samples
