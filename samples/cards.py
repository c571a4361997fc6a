"""The model cards: what was measured, by which command, beside the weights that it was measured on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from samples.dataset import DEFAULT_USERS, world_sessions
from samples.evaluate import measure_zero_shot
from samples.models import EMBEDDER, WRITER, load_embedder, load_writer
from samples.world import make_catalogue

Figures = Mapping[str, Mapping[str, float | int]]
COMMAND = "python -m samples models"
_ABOUT = {
    WRITER: (
        "# Sample profile writer\n\n"
        "A Llama-architecture causal language model ({parameters:,} parameters, float32) that writes a short preference profile "
        "from a history of the sample world. It was trained from scratch on synthetic text only; it knows no other English.\n"
    ),
    EMBEDDER: (
        "# Sample embedder\n\n"
        "A BERT-architecture sentence encoder ({parameters:,} parameters, float32, mean pooling, unit length, 128 "
        "dimensions, 256 tokens) for films and profiles of the sample world, trained from scratch on synthetic text only.\n"
    ),
}


def measure_models(folder: Path, seed: int = 0) -> Figures:
    """Zero-shot ranking and profile quality of the two models in `folder` on the test users of world `seed`."""
    writer, tokenizer = load_writer(folder / WRITER)
    embedder = load_embedder(folder / EMBEDDER)
    catalogue = make_catalogue(seed=seed)
    test = [session for session in world_sessions(catalogue, DEFAULT_USERS, seed) if session.split == "test"]
    ranking, quality = measure_zero_shot(writer, tokenizer, embedder, catalogue.items, test, seed)
    sizes = {WRITER: writer.num_parameters(), EMBEDDER: sum(weight.numel() for weight in embedder.parameters())}
    return {"ranking": ranking.to_dict(), "quality": quality.to_dict(), "parameters": sizes}


def write_cards(folder: Path, measured: Figures, training: Figures) -> None:
    """README.md of each model folder; `training` gives seed and CPU seconds of each."""
    for name, about in _ABOUT.items():
        run = training[name]
        figures = "".join(
            f"| {key} | {value:.4f} |\n" if isinstance(value, float) else f"| {key} | {value} |\n"
            for group in ("ranking", "quality")
            for key, value in measured[group].items()
        )
        (folder / name / "README.md").write_text(
            f"{about.format(parameters=measured['parameters'][name])}\n"
            f"Made by `{COMMAND}` (seed {run['seed']:.0f}, {run['cpu_seconds']:.0f} CPU seconds on one core).\n"
            "Both models together, on the test users of the sample world of seed 0, one profile each sampled at temperature 1\n"
            "(`python -m samples measure`; defined in `samples/evaluate.py` and `samples/measure.py`; ranking is NDCG@20):\n\n"
            f"| figure | value |\n| --- | --- |\n{figures}"
        )


def read_training(folder: Path) -> dict[str, dict[str, float]]:
    """What `models` wrote down about its runs."""
    return {name: json.loads((folder / name / "training.json").read_text()) for name in (WRITER, EMBEDDER)}
