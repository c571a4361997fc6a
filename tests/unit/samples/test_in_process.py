"""The benchmarks' ports in one process: what they give is what a seed says, and a run of Algorithm 1 goes through them."""

from __future__ import annotations

import pytest

from benchmarks.in_process import Trainee, World
from benchmarks.sample_efficiency import SETTINGS, half_width
from services.trainer.learning.presets import preset

SMALL = {
    "outer_iterations": 1,
    "contrastive": {"batches": 1, "final_batches": 0, "batch_size": 4, "catalogue_negatives": 4},
    "rlso": {"batches": 1, "histories": 2, "samples": 3, "epochs": 1},
}


async def test_a_small_run_learns_and_measures_the_same_twice() -> None:
    """Two runs of one seed end alike, user by user; the tokens that were generated are counted."""
    world = World.of(0, users=60, items=100)
    ends = []
    for _ in range(2):
        trainee = Trainee(preset("sample", SMALL), world)
        phases = [progress.phase async for progress in trainee.algorithm.run()]
        assert phases == ["cl", "rlso"]
        assert trainee.rollouts.tokens >= 4 + 2 * 3
        ends.append(await trainee.measure(world.splits["validation"], seed=5, samples=2))
    assert ends[0].ndcg.tolist() == ends[1].ndcg.tolist()
    assert len(ends[0].ndcg) == 6
    assert ends[0].quality is not None
    assert ends[0].quality.profiles == 12


def test_half_width() -> None:
    """Of (1, 2, 3): s = 1, t(0.975; 2) = 4.3027, so 4.3027 / sqrt(3) = 2.4841."""
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(2.4841, abs=1e-4)
    assert half_width([1.0]) == 0.0


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_sample_efficiency_are_valid(name: str) -> None:
    """Each generates as many rollouts a batch as the preset, so that batches are comparable."""
    base, other = preset("sample").rlso, preset("sample", {"rlso": SETTINGS[name]}).rlso
    assert other.histories * other.samples == base.histories * base.samples
