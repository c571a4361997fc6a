"""Rank 0 leads and the others follow: how one algorithm drives learners that several processes hold a share of.

The whole of Algorithm 1, with everything that talks to the world, runs in rank 0 alone. Its learners tell every call to the
other processes first, which wait for calls and make them, too; so a batch, its rollouts and its ranks are the same whatever the
number of processes. A process that dies ends all of them (`torch.distributed.run`), which the job sees as one dead worker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor

from langptune.weights.golden import Golden
from services.trainer.learning.algorithm import Learners
from services.trainer.learning.config import LearningConfig
from services.trainer.learning.embedder import NO_NEGATIVES, ContrastiveExample, ContrastiveUpdate, Embedder, EmbedderLearner
from services.trainer.learning.parallel import ALONE, Parallel
from services.trainer.learning.policy import Policy
from services.trainer.learning.policy_learner import PolicyLearner, PolicyUpdate
from services.trainer.learning.ports import RolloutGroup
from services.trainer.learning.randomness import seed_all

Told = TypeVar("Told")


@dataclass(frozen=True, slots=True)
class Models:
    """What every process loads: folders on a disk that all of them see, None for a part that does not learn."""

    config: LearningConfig
    encoder: str | None
    decoder: str | None


class Processes(Parallel, Protocol):
    """As `zero.ZeroProcesses`: a group whose first process leads."""

    def tell(self, message: Told) -> Told:
        """What rank 0 says, to all."""

    def configure(self, config: LearningConfig) -> None:
        """Before the first stepper is made."""


def alone(models: Models) -> Learners:
    """The learners of a job that is one process."""
    policy, embedder = _load(models)
    return Learners(
        PolicyLearner(policy, models.config.rlso, ALONE) if policy else None,
        EmbedderLearner(embedder, models.config.contrastive, ALONE) if embedder else None,
    )


def lead(models: Models, processes: Processes) -> Learners:
    """In rank 0: learners whose calls all processes make."""
    processes.tell(models)
    processes.configure(models.config)
    policy, embedder = _load(models)
    return Learners(
        LeadingPolicy(policy, models.config, processes) if policy else None,
        LeadingEmbedder(embedder, models.config, processes) if embedder else None,
    )


def follow(processes: Processes) -> None:
    """In the other ranks: make every call that rank 0 makes, until it dismisses."""
    models: Models | None = processes.tell(None)
    if models is None:
        return
    processes.configure(models.config)
    seed_all(models.config.seed)
    policy, embedder = _load(models)
    learners: dict[str, Any] = {}
    if policy:
        learners["policy"] = PolicyLearner(policy, models.config.rlso, processes)
    if embedder:
        learners["embedder"] = EmbedderLearner(embedder, models.config.contrastive, processes)
    while (call := processes.tell(None)) is not None:
        learner, method, arguments = call
        getattr(learners[learner], method)(*arguments)


def dismiss(processes: Processes) -> None:
    """In rank 0: the others return from `follow`."""
    processes.tell(None)


class LeadingPolicy(PolicyLearner):
    """Rank 0's share of the policy."""

    def __init__(self, policy: Policy, config: LearningConfig, processes: Processes) -> None:
        super().__init__(policy, config.rlso, processes)
        self._processes = processes

    def begin_outer_iteration(self) -> None:
        self._processes.tell(("policy", "begin_outer_iteration", ()))
        super().begin_outer_iteration()

    def update(self, groups: Sequence[RolloutGroup], quality: Tensor, rate: float) -> PolicyUpdate:
        self._processes.tell(("policy", "update", (groups, quality, rate)))
        return super().update(groups, quality, rate)

    def golden(self) -> Golden:
        self._processes.tell(("policy", "golden", ()))
        return super().golden()

    def state_dict(self) -> dict[str, Any]:
        self._processes.tell(("policy", "state_dict", ()))
        return super().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._processes.tell(("policy", "load_state_dict", ({},)))
        super().load_state_dict(state)

    def save(self, folder: Path) -> None:
        self._processes.tell(("policy", "save", (folder,)))
        super().save(folder)


class LeadingEmbedder(EmbedderLearner):
    """Rank 0's share of the embedder."""

    def __init__(self, embedder: Embedder, config: LearningConfig, processes: Processes) -> None:
        super().__init__(embedder, config.contrastive, processes)
        self._processes = processes

    def update(
        self, examples: Sequence[ContrastiveExample], rate: float, negatives: Mapping[str, str] = NO_NEGATIVES
    ) -> ContrastiveUpdate:
        self._processes.tell(("embedder", "update", (examples, rate, dict(negatives))))
        return super().update(examples, rate, negatives)

    def state_dict(self) -> dict[str, Any]:
        self._processes.tell(("embedder", "state_dict", ()))
        return super().state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._processes.tell(("embedder", "load_state_dict", ({},)))
        super().load_state_dict(state)

    def save(self, folder: Path) -> None:
        self._processes.tell(("embedder", "save", (folder,)))
        super().save(folder)


def _load(models: Models) -> tuple[Policy | None, Embedder | None]:
    config = models.config
    policy = Policy.load(models.encoder, config.rlso) if models.encoder else None
    embedder = Embedder.load(models.decoder, config.contrastive.micro_rows) if models.decoder else None
    return policy, embedder
