"""LangPTune and NoProfile in all variants: a text for each user, embedded, against every item's embedding (Eq. 1 and 2).

The variants are switches of one loop (Algorithm 1), as in the services: zero-shot K = 0, CL only T = 0, RLSO only J = 0.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from experiments.data import TrainingData
from experiments.in_process import Material, ModelNames, Trainee
from experiments.systems.base import System
from langptune.domain import Session
from services.trainer.learning.config import LearningConfig
from services.trainer.learning.ports import Rollout
from services.trainer.learning.presets import preset
from services.trainer.learning.progress import Progress

TEXTS = "texts.parquet"  # split, user_id, sample, text, tokens, finish_reason: what the users were ranked by
TRAINING = "training.parquet"  # a row a batch: step, phase, loss, reward_mean, ... (docs/metrics.md)


@dataclass(frozen=True)
class LanguageOptions:
    """A setting of `services.trainer.learning.presets` with some values replaced, and how many profiles a user gets."""

    preset: str = "sample"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 3  # profiles per user; NoProfile has one text


def config_of(values: Mapping[str, Any], seed: int = 0) -> LearningConfig:
    """The whole configuration that hyperparameters stand for."""
    options = LanguageOptions(**values)
    return preset(options.preset, {**options.overrides, "seed": seed})


class LanguageSystem(System):
    """Both models, trained in this process as the configuration says, then measured by the texts that they give."""

    def __init__(self, options: LanguageOptions, models: ModelNames, seed: int) -> None:
        self.config = preset(options.preset, {**options.overrides, "seed": seed})
        self._options = options
        self._models = models
        self._training: list[Progress] = []
        self._texts: list[dict[str, Any]] = []

    def fit(self, data: TrainingData) -> None:
        """Algorithm 1 on the training sessions; validation sessions are not used."""
        self.trainee = Trainee(self.config, Material(data.items, data.train, data.domain), self._models)
        asyncio.run(self._learn())
        self.trainee.rewards.refresh()

    async def _learn(self) -> None:
        async for progress in self.trainee.algorithm.run():
            self._training.append(progress)

    def scores(self, sessions: Sequence[Session]) -> NDArray[np.floating]:
        written = self.texts(sessions)
        flat = self.trainee.rewards.similarities([rollout.text for rollouts in written for rollout in rollouts])
        return flat.reshape(len(sessions), -1, flat.shape[1])

    def texts(self, sessions: Sequence[Session]) -> list[tuple[Rollout, ...]]:
        """What each user is ranked by: sampled profiles, or the history as the embedder can read it."""
        written: list[tuple[Rollout, ...]]
        if self.config.profile_source == "history":
            written = [(Rollout((), self.trainee.embedder.text_of(session.history), "stop"),) for session in sessions]
        else:
            seed = _writing_seed(self.config.seed, sessions[0])
            written = self.trainee.write([session.history for session in sessions], self._options.samples, seed)
        for session, rollouts in zip(sessions, written, strict=True):
            self._texts += [_row(session, sample, rollout) for sample, rollout in enumerate(rollouts)]
        return written

    def save(self, folder: Path) -> None:
        """Texts, training curve, and those of the two models that learnt (`encoder/`, `embedder/`)."""
        pq.write_table(pa.Table.from_pylist(self._texts), folder / TEXTS)
        if self._training:
            rows = [{"phase": each.phase, **each.metrics()} for each in self._training]
            columns = sorted({name for row in rows for name in row})
            pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in columns}), folder / TRAINING)
        phases = {each.phase for each in self._training}
        learners = self.trainee.algorithm.learners
        if "rlso" in phases and learners.policy:
            learners.policy.save(folder / "encoder")
        if "cl" in phases and learners.embedder:
            learners.embedder.save(folder / "embedder")


def _writing_seed(seed: int, first: Session) -> int:
    """A seed for one call: the same users in the same calls get the same profiles, whatever was asked before."""
    digest = hashlib.blake2b(f"{seed}\0{first.split}\0{first.user_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)


def _row(session: Session, sample: int, rollout: Rollout) -> dict[str, Any]:
    return {
        "split": session.split,
        "user_id": session.user_id,
        "sample": sample,
        "text": rollout.text,
        "tokens": len(rollout.token_ids),
        "finish_reason": rollout.finish_reason,
    }
