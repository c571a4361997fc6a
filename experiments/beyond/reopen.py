"""A finished run of an interpretable system, with its models in memory again: to write and rank what the run did not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from transformers.utils.logging import disable_progress_bar

from experiments.data import TrainingData
from experiments.in_process import Material, ModelNames, Trainee
from experiments.runs import Result
from experiments.systems.language import TEXTS
from langptune.data.dataset import Dataset
from langptune.domain import Interaction, Session
from langptune.errors import FailedPrecondition
from langptune.text import fit_history, prompt_text
from services.trainer.learning.presets import preset

_TEMPLATE_TOKENS = 32  # room for the chat template


@dataclass(frozen=True)
class Text:
    """One text that a user was ranked by."""

    user_id: str
    text: str
    tokens: int  # 0 for a raw history
    finished: bool  # whether the model ended it


@dataclass(frozen=True)
class Reopened:
    """The run `result`."""

    result: Result

    @property
    def seed(self) -> int:
        """The run's."""
        return int(self.result.config["identity"]["seed"])

    @cached_property
    def dataset(self) -> Dataset:
        """What it ran on. Raises FailedPrecondition if that has changed since."""
        asked = self.result.config["asked"]
        dataset = Dataset.open(asked["dataset"])
        if dataset.content_hash != asked["dataset_hash"]:
            raise FailedPrecondition(f"{asked['dataset']} has changed since {self.result.folder.name}", reason="OTHER_DATA")
        return dataset

    @cached_property
    def sessions(self) -> list[Session]:
        """The test sessions that it was measured on, in its order."""
        return self.dataset.sessions("test")[: self.result.config["asked"]["test_users"] or None]

    @cached_property
    def texts(self) -> list[Text]:
        """The first text of each of `sessions`."""
        rows = pq.read_table(self.result.folder / TEXTS, filters=[("split", "=", "test"), ("sample", "=", 0)]).to_pylist()
        return [Text(row["user_id"], row["text"], row["tokens"], row["finish_reason"] == "stop") for row in rows]

    @property
    def writes(self) -> bool:
        """Whether it writes profiles; otherwise the history's text stands for them."""
        return self.trainee.config.profile_source != "history"

    @cached_property
    def positions(self) -> dict[str, int]:
        """Item id -> column of `similarities`."""
        return {item_id: at for at, item_id in enumerate(self.dataset.items)}

    @cached_property
    def trainee(self) -> Trainee:
        """The models as they were after the run; those that did not learn come from where the run had them from."""
        disable_progress_bar()
        asked = self.result.config["asked"]
        names = {name: self.result.folder / name for name in ("encoder", "embedder")}
        models = ModelNames(*(str(place) if place.exists() else asked[name] for name, place in names.items()))
        chosen: Mapping[str, Any] = self.result.config["chosen"]
        overrides = {**chosen.get("overrides", {}), "outer_iterations": 0, "seed": self.seed}
        config = preset(chosen.get("preset", "sample"), overrides)
        return Trainee(config, Material(self.dataset.items, (), self.dataset.domain), models)

    def write(self, histories: Sequence[Sequence[Interaction]], seed: int) -> list[str]:
        """One text for each history: a sampled profile, or the history, either of as much of it as the model can read."""
        if self.writes:
            return [rollouts[0].text for rollouts in self.trainee.write(list(map(self._readable, histories)), 1, seed)]
        return [self.trainee.embedder.text_of(history) for history in histories]

    def _readable(self, history: Sequence[Interaction]) -> Sequence[Interaction]:
        """What fits before the profile, cut as the encoder service cuts it."""
        policy, domain = self.trainee.policy, self.dataset.domain
        if policy is None:  # NoProfile: the embedder cuts the history itself
            return history
        places = int(policy.causal_lm.config.get_text_config().max_position_embeddings)
        limit = places - self.trainee.config.rlso.max_new_tokens - _TEMPLATE_TOKENS
        fitted = fit_history(history, limit, lambda entries: len(policy.tokenizer(prompt_text(entries, domain))["input_ids"]))
        return fitted.history if fitted else history[-1:]

    def similarities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[texts, items], cosines."""
        return self.trainee.rewards.similarities(texts)


def training_data(dataset: Dataset, sessions: Sequence[Session]) -> TrainingData:
    """Just enough to rank `sessions` by `experiments.scoring`."""
    return TrainingData(dataset.items, (), (), tuple(sessions), dataset.domain)
