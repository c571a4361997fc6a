"""Makes the two shipped models, and loads them.

Deterministic in the seed on one torch thread; another kind of CPU may round, and so end, a little differently.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from langptune.text import prompt_text
from samples.dataset import MODEL_SEEDS
from samples.embedder import CURRICULUM as EMBEDDER_CURRICULUM
from samples.embedder import MAX_LENGTH, train_embedder
from samples.teacher import write_profile
from samples.tokenizer import embedder_tokenizer, train_tokenizer, writer_tokenizer
from samples.users import PRETRAINING_CHOICE, make_sessions, make_users
from samples.world import make_catalogue
from samples.writer import CURRICULUM as WRITER_CURRICULUM
from samples.writer import save_writer, train_writer

MODELS_FOLDER = Path(__file__).parent / "models"
WRITER = "profile-writer"
EMBEDDER = "embedder"
VOCABULARY_SESSIONS = 1_500


def make_vocabulary() -> Tokenizer:
    """The BPE vocabulary of both models; the same for every seed of theirs."""
    rng = np.random.default_rng([MODEL_SEEDS, 8])
    catalogue = make_catalogue(seed=MODEL_SEEDS)
    users = make_users(VOCABULARY_SESSIONS, MODEL_SEEDS)
    sessions = make_sessions(catalogue, users, MODEL_SEEDS, choice=PRETRAINING_CHOICE)
    return train_tokenizer(
        text for session in sessions for text in (prompt_text(session.history), write_profile(session.history, rng))
    )


def make_writer(folder: Path, seed: int = 0) -> float:
    """Train the profile writer and save it to `folder`; returns the CPU seconds that it took."""
    tokenizer = writer_tokenizer(make_vocabulary())
    steps = sum(stage.steps for phase in WRITER_CURRICULUM for stage in phase.stages)
    with _training("profile writer", steps) as (progress, started):
        model = train_writer(tokenizer, seed, on_step=lambda step, loss, _: progress(step, loss))
    save_writer(model, tokenizer, folder)
    return time.process_time() - started


def make_embedder(folder: Path, seed: int = 0) -> float:
    """Train the embedder and save it to `folder`; returns the CPU seconds that it took."""
    tokenizer = embedder_tokenizer(make_vocabulary(), MAX_LENGTH)
    with _training("embedder", sum(stage.steps for stage in EMBEDDER_CURRICULUM)) as (progress, started):
        model = train_embedder(tokenizer, seed, on_step=lambda step, loss, _: progress(step, loss))
    model.save_pretrained(str(folder), create_model_card=False)
    return time.process_time() - started


@contextmanager
def _training(name: str, steps: int) -> Iterator[tuple[_Report, float]]:
    """One torch thread and a progress bar."""
    torch.set_num_threads(1)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        yield _Report(progress, name, steps), time.process_time()


class _Report:
    """Moves one progress bar."""

    def __init__(self, progress: Progress, name: str, steps: int) -> None:
        self._progress = progress
        self._name = name
        self._task = progress.add_task(name, total=steps)

    def __call__(self, step: int, loss: float) -> None:
        self._progress.update(self._task, completed=step, description=f"{self._name} (loss {loss:.3f})")


def load_writer(folder: Path = MODELS_FOLDER / WRITER) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The writer and its tokenizer, by the same doors as a production model."""
    model = cast(LlamaForCausalLM, AutoModelForCausalLM.from_pretrained(folder))
    model.eval()
    return model, cast(PreTrainedTokenizerFast, AutoTokenizer.from_pretrained(folder))


def load_embedder(folder: Path = MODELS_FOLDER / EMBEDDER) -> SentenceTransformer:
    """The embedder, by the same door as a production model."""
    return SentenceTransformer(str(folder), device="cpu").eval()
