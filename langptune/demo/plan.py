"""How much the demo does. All of it together is at most six minutes on two cores."""

from __future__ import annotations

from dataclasses import dataclass, field

from langptune.client import TrainingSpec


@dataclass(frozen=True)
class DemoPlan:
    """Sizes and seeds of one telling."""

    items: int = 1_200
    users: int = 6_400  # 60 % train, 10 % validation, 30 % test
    seed: int = 1  # of the world, of sampling and of training; the preset was chosen on the world of seed 0
    top: int = 10  # places that are shown
    test_users: int = 1_200  # held out, measured before and after
    samples: int = 3  # profiles per test user and measurement
    max_new_tokens: int = 80  # the tiny writer's profiles are about 40
    training: TrainingSpec = field(
        default_factory=lambda: TrainingSpec(
            dataset_uri="", preset="sample", cl_batches=40, rlso_batches=24, final_cl_batches=20, validation_users=128
        )
    )


FULL = DemoPlan()
