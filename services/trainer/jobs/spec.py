"""From the public TrainingSpec to checked hyperparameters.

The learning core knows the preset and the hyperparameters by dotted names ("rlso.eta"); here its complaints about them become
complaints about the field of the request that brought them in ("spec.overrides[rlso.eta]").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from langptune.convert import check_id, check_range, check_text
from langptune.errors import InvalidArgument
from langptune.v1 import trainer_pb2
from services.trainer.learning.config import LearningConfig
from services.trainer.learning.presets import preset
from services.trainer.learning.schedule import plan

DEFAULT_PRESET = "sample"
_FIELDS = {  # hyperparameters that have a field of their own
    "outer_iterations": "outer_iterations",
    "contrastive.batches": "cl_batches",
    "rlso.batches": "rlso_batches",
    "contrastive.final_batches": "final_cl_batches",
    "distributed.processes": "processes",
}
_OWN_FIELD = {**_FIELDS, "seed": "seed", "profile_source": "profile_source"}
_MAX_VALIDATION_USERS = 1_000_000


@dataclass(frozen=True, slots=True)
class ResolvedSpec:
    """What a job will do: the learning core's configuration and how many users validate it."""

    config: LearningConfig
    validation_users: int

    @property
    def steps(self) -> int:
        """Batches of the whole job."""
        return len(plan(self.config))

    def described(self) -> dict[str, str]:
        """Every value by its dotted name."""
        return {**_flat(self.config.model_dump(mode="json")), "validation_users": str(self.validation_users)}


def resolve(spec: trainer_pb2.TrainingSpec, default_validation_users: int) -> ResolvedSpec:
    """Raises InvalidArgument with the field of the spec."""
    check_text("spec.dataset_uri", spec.dataset_uri, low=1, high=4_096)
    if spec.parent_release_id:
        check_id("spec.parent_release_id", spec.parent_release_id)
    users = spec.validation_users if spec.HasField("validation_users") else default_validation_users
    check_range("spec.validation_users", users, 0, _MAX_VALIDATION_USERS)
    values: dict[str, Any] = {}
    for name, value in sorted(spec.overrides.items()):
        if name in _OWN_FIELD:
            raise InvalidArgument(f"spec.overrides[{name}]", f"has a field of its own: set spec.{_OWN_FIELD[name]}")
        _put(values, check_id(f"spec.overrides[{name}]", name), _plain(value), f"spec.overrides[{name}]")
    for name, field in _FIELDS.items():
        if spec.HasField(field):  # type: ignore[arg-type]  # the stub lists literal names
            _put(values, name, getattr(spec, field), f"spec.{field}")
    values["seed"] = spec.seed
    if spec.profile_source == trainer_pb2.PROFILE_SOURCE_HISTORY:
        values["profile_source"] = "history"
    with named_as_in(spec):
        return ResolvedSpec(preset(spec.preset or DEFAULT_PRESET, values), users)


@contextmanager
def named_as_in(spec: trainer_pb2.TrainingSpec) -> Iterator[None]:
    """Turns InvalidArgument about a hyperparameter into one about the field of `spec` that gave it its value."""
    try:
        yield
    except InvalidArgument as error:
        raise InvalidArgument(_field(error.field, spec), error.message.removeprefix(f"{error.field}: ")) from None


def _field(name: str, spec: trainer_pb2.TrainingSpec) -> str:
    """Where the request said it."""
    for override in spec.overrides:
        if override == name or override.startswith(f"{name}."):
            return f"spec.overrides[{override}]"
    if name == "learning":  # values that do not go together; the only such rule is about NoProfile
        return "spec.profile_source" if spec.profile_source == trainer_pb2.PROFILE_SOURCE_HISTORY else "spec"
    return f"spec.{_OWN_FIELD.get(name, name)}"


def _put(values: dict[str, Any], name: str, value: Any, field: str) -> None:
    *path, last = name.split(".")
    for part in path:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            raise InvalidArgument(field, f"{part!r} is set as a value, too")
        values = inner
    if last in values:
        raise InvalidArgument(field, "is set twice")
    values[last] = value


def _plain(value: str) -> str | None:
    return None if value.lower() in ("none", "null") else value


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": str(value)}
    return flat
