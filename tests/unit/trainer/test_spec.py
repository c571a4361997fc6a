"""TrainingSpec to hyperparameters: what the caller names wins over the preset, and every complaint names the caller's field."""

from __future__ import annotations

from typing import Any

import pytest

from langptune.errors import InvalidArgument
from langptune.v1 import trainer_pb2 as pb
from services.trainer.jobs.spec import resolve
from services.trainer.learning.presets import PRESETS


def _spec(**values: Any) -> pb.TrainingSpec:
    return pb.TrainingSpec(**({"dataset_uri": "data"} | values))


def test_named_fields_and_overrides_win_over_the_preset() -> None:
    spec = _spec(outer_iterations=2, cl_batches=3, rlso_batches=4, final_cl_batches=1, seed=9, overrides={"rlso.eta": "0.5"})
    resolved = resolve(spec, 500)
    config = resolved.config
    assert (config.outer_iterations, config.contrastive.batches, config.rlso.batches) == (2, 3, 4)
    assert (config.contrastive.final_batches, config.seed, config.rlso.eta) == (1, 9, 0.5)
    assert resolved.steps == 2 * (3 + 4) + 1
    assert resolved.validation_users == 500
    assert config.rlso.learning_rate == PRESETS["sample"]["rlso"]["learning_rate"]


def test_zero_is_a_value_and_not_an_absence() -> None:
    resolved = resolve(_spec(rlso_batches=0, validation_users=0), 500)
    assert (resolved.config.rlso.batches, resolved.validation_users) == (0, 0)


def test_none_can_be_said() -> None:
    assert resolve(_spec(overrides={"rlso.cutoff": "none"}), 0).config.rlso.cutoff is None
    assert resolve(_spec(overrides={"rlso.cutoff": "20"}), 0).config.rlso.cutoff == 20


def test_everything_is_described_by_its_dotted_name() -> None:
    described = resolve(_spec(preset="paper/gemma-2b-it"), 7).described()
    assert described["rlso.lora_rank"] == "1024"
    assert described["outer_iterations"] == "5"
    assert described["validation_users"] == "7"


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_resolves(name: str) -> None:
    assert resolve(_spec(preset=name), 1).steps > 0


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"rlso.samples": "1"}, "spec.overrides[rlso.samples]"),
        ({"rlso.samples": "many"}, "spec.overrides[rlso.samples]"),
        ({"rlso": "1"}, "spec.overrides[rlso]"),
        ({"rlso": "1", "rlso.eta": "1"}, "spec.overrides[rlso.eta]"),
        ({"rlso.eta.x": "1"}, "spec.overrides[rlso.eta.x]"),
        ({"": "1"}, "spec.overrides[]"),
        ({"seed": "1"}, "spec.overrides[seed]"),
    ],
)
def test_bad_overrides_are_named(overrides: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        resolve(_spec(overrides=overrides), 1)
    assert refused.value.field == field
