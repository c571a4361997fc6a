"""What a training run is: every hyperparameter of Algorithm 1, typed, frozen and checked before anything is loaded.

`LearningConfig.parse` is the door for values from outside: it raises InvalidArgument with the path of the offending field.
The variants of the paper are values of this one type: zero-shot K = 0, CL only T = 0, RLSO only J = 0.
Named settings are in `presets`. Memory and speed knobs are called `micro_*`; they never change a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from langptune.errors import InvalidArgument

Trainable = Literal["full", "last_k", "lora"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RlsoConfig(_Frozen):
    """Section 3.2.1; defaults are Appendix B's where it has one."""

    batches: int = Field(default=200, ge=0, description="T: RLSO batches per outer iteration")
    histories: int = Field(default=64, ge=1, description="histories per batch (all processes together)")
    samples: int = Field(default=2, ge=2, le=64, description="G: rollouts per history; the paper's is 2")
    epochs: int = Field(default=4, ge=1, description="passes over each batch, one optimizer step each")
    eta: float = Field(default=1.0, gt=0, description="Eq. 4: weight of the reward against the step's own KL")
    gamma: float = Field(default=0.0, ge=0, description="Eq. 11: weight of the KL penalty against the reference policy pi_0")
    kl_reference: Literal["base", "iteration"] = Field(
        default="base", description="pi_0: the first model, or reset as in Algorithm 1"
    )
    measure_kl: bool = Field(
        default=True, description="measure the KL to pi_0 when gamma is 0, too: a pass without gradients, a copy of what learns"
    )
    truncated_reward: float = Field(default=0.0, description="Gamma: U of a rollout that did not terminate")
    metric: Literal["ndcg", "mrr"] = Field(default="ndcg", description="U")
    cutoff: int | None = Field(default=None, ge=1, description="U counts ranks up to here; None: the whole catalogue")
    standardise: bool = Field(default=True, description="rewards to mean 0 and variance 1 over the batch, after the KL term")
    learning_rate: float = Field(default=1e-7, gt=0, description="AdamW, at the first step; decays linearly to 0")
    weight_decay: float = Field(default=1e-6, ge=0)
    max_new_tokens: int = Field(default=512, ge=1, description="length limit of a rollout, tokens")
    trainable: Trainable = Field(default="full", description="which parameters of the encoder learn")
    last_k: int = Field(default=4, ge=1, description="for last_k: top layers that learn, with the final norm and lm_head")
    lora_rank: int = Field(default=1024, ge=1, description="for lora")
    lora_alpha: int = Field(default=2048, ge=1, description="for lora")
    micro_tokens: int = Field(default=8192, ge=1, description="tokens of one gradient pass; never splits a history")


class ContrastiveConfig(_Frozen):
    """Section 3.2.2."""

    batches: int = Field(default=800, ge=0, description="J: CL batches per outer iteration")
    final_batches: int = Field(default=0, ge=0, description="CL batches once more after the last RLSO batch of the job")
    batch_size: int = Field(default=256, ge=2, description="profiles, and so in-batch items, per batch (all processes together)")
    temperature: float = Field(default=0.1, gt=0)
    learning_rate: float = Field(default=1e-5, gt=0, description="AdamW, at the first step; decays linearly to 0")
    weight_decay: float = Field(default=1e-6, ge=0)
    catalogue_negatives: int = Field(
        default=0, ge=0, description="further negatives of each batch, drawn evenly from the catalogue; the paper has none"
    )
    micro_rows: int = Field(default=32, ge=1, description="texts of one forward pass of the embedder, grouped by length")
    cached: bool = Field(
        default=False, description="GradCache (Gao et al. 2021): memory of micro_rows texts instead of the batch, one more pass"
    )


class Guard(_Frozen):
    """The limits of one figure; None is no limit."""

    above: float | None = Field(default=None, description="the figure must not be above this")
    below: float | None = Field(default=None, description="the figure must not be below this")
    action: Literal["warn", "stop"] = Field(default="warn", description="what happens when the guard fires")

    def broken_limit(self, value: float) -> float | None:
        """The limit that `value` is beyond, if it is."""
        if self.above is not None and not value <= self.above:
            return self.above
        return self.below if self.below is not None and not value >= self.below else None


class GuardsConfig(_Frozen):
    """What shows that the policy has found a hole in the reward (`guards`). Guards never change what is learnt."""

    patience: int = Field(default=3, ge=1, description="RLSO updates in a row beyond a limit before its guard fires")
    kl: Guard = Field(default=Guard(above=50.0), description="nats per rollout to the reference policy")
    response_tokens: Guard = Field(default=Guard(below=8.0), description="length of a profile, tokens")
    truncated_share: Guard = Field(default=Guard(above=0.5), description="share of profiles that did not terminate")
    distinct_2: Guard = Field(default=Guard(below=0.5), description="share of distinct token pairs in a profile")
    copied_share: Guard = Field(default=Guard(above=0.5), description="share of a profile's phrases that stand in the history")
    logprob_gap: Guard = Field(default=Guard(above=0.05), description="nats per token between engine and trainer")
    gradient_norm: Guard = Field(default=Guard(), description="of the first epoch; no limit but being finite")

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, values: Any) -> Any:
        """A guard of which one value is given keeps its other defaults."""
        if not isinstance(values, Mapping):
            return values
        guards = {name: field.default for name, field in cls.model_fields.items() if isinstance(field.default, Guard)}
        return {
            name: {**guards[name].model_dump(), **value} if name in guards and isinstance(value, Mapping) else value
            for name, value in values.items()
        }

    def by_metric(self) -> dict[str, Guard]:
        """Every guard by the name of its metric."""
        return {name: value for name, value in self if isinstance(value, Guard)}


class DistributedConfig(_Frozen):
    """How many processes train, and what they share out. No value changes a result: batches are those of all together."""

    processes: int = Field(default=1, ge=1, le=1024, description="one to a GPU; they divide both batch sizes")
    zero_stage: int = Field(
        default=2, ge=2, le=3, description="several processes share out: 2 gradients and optimizer, 3 the parameters, too"
    )
    offload: bool = Field(default=False, description="several processes keep the optimizer in the host's memory")


class LearningConfig(_Frozen):
    """Algorithm 1 as values."""

    outer_iterations: int = Field(default=5, ge=0, description="K")
    contrastive: ContrastiveConfig = ContrastiveConfig()
    rlso: RlsoConfig = RlsoConfig()
    guards: GuardsConfig = GuardsConfig()
    distributed: DistributedConfig = DistributedConfig()
    profile_source: Literal["profile", "history"] = Field(default="profile", description="history: NoProfile, D(h) is embedded")
    seed: int = Field(default=0, ge=0, lt=2**32, description="data order and generation follow from it and the step")

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> LearningConfig:
        """Check values from outside. Raises InvalidArgument naming the first wrong field, e.g. `rlso.eta`."""
        try:
            config = cls.model_validate(dict(values))
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(str(part) for part in first["loc"]) or "learning"
            raise InvalidArgument(path, first["msg"].removeprefix("Value error, ")) from error
        config._check_processes()
        return config

    @property
    def rlso_updates(self) -> int:
        """RLSO batches of the whole job."""
        return self.outer_iterations * self.rlso.batches

    @property
    def contrastive_updates(self) -> int:
        """CL batches of the whole job."""
        return self.outer_iterations * self.contrastive.batches + (self.contrastive.final_batches if self.outer_iterations else 0)

    def _check_processes(self) -> None:
        processes = self.distributed.processes
        if processes == 1 and self.distributed.offload:
            raise InvalidArgument("distributed.offload", "is for several processes; set distributed.processes, too")
        for updates, name, size in (
            (self.rlso_updates, "rlso.histories", self.rlso.histories),
            (self.contrastive_updates, "contrastive.batch_size", self.contrastive.batch_size),
        ):
            if updates and size % processes:
                raise InvalidArgument("distributed.processes", f"{processes} do not divide {name}, which is {size}")

    @model_validator(mode="after")
    def _combination(self) -> Self:
        if self.profile_source == "history" and self.outer_iterations and self.rlso.batches:
            raise ValueError("profile_source 'history' has no profile for RLSO to train: set rlso.batches to 0")
        return self
