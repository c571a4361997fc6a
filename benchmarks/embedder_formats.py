"""What a smaller number format of the embedder gains on CPU, and what it costs in agreement with float32.

    python -m benchmarks.embedder_formats --json build/embedder-formats.json     # about six minutes on one thread

Item texts of the real catalogue movie-critics, embedded by all-MiniLM-L6-v2 in float32, in bfloat16 (the setting
LANGPTUNE_DECODER_DTYPE) and with int8 weights (torch's dynamic quantisation of linear layers, which is no setting), in turns, by
CPU time. Agreement: the share of a query's ten best by float32 that stay among its ten best. ONNX is left out: for it
sentence-transformers needs optimum-onnx, whose every release asks for transformers below 4.58.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch.ao.quantization import quantize_dynamic

from benchmarks.decoder import real_items
from benchmarks.real_input import data_folder, minilm_folder
from langptune.convert import item_from_catalogue
from langptune.text import item_text

K = 10


def formats() -> dict[str, Any]:
    """The same model in each format."""
    folder = str(minilm_folder())
    return {
        "float32": SentenceTransformer(folder, device="cpu"),
        "bfloat16": SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": torch.bfloat16}),
        "int8": quantize_dynamic(SentenceTransformer(folder, device="cpu"), {torch.nn.Linear}, dtype=torch.qint8),
    }


def embed(model: Any, texts: list[str]) -> NDArray[np.float32]:
    """[texts, dimensions], each row of length 1."""
    vectors: NDArray[np.float32] = model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    return vectors.astype(np.float32)


def best(items: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """Places of the K best items of each query."""
    order: NDArray[np.int64] = np.argsort(-(queries @ items.T), axis=1)[:, :K]
    return order


def run(items: list[str], rounds: int) -> dict[str, Any]:
    """CPU seconds by format and round, their median ratio to float32, and agreement."""
    queries = [f"They like films such as {text[:60]}." for text in items[::8]]
    seconds: dict[str, list[float]] = {}
    found: dict[str, NDArray[np.int64]] = {}
    models = formats()
    for _ in range(rounds):
        for name, model in models.items():
            began = time.process_time()
            vectors = embed(model, items)
            seconds.setdefault(name, []).append(time.process_time() - began)
            found[name] = best(vectors, embed(model, queries))
    exact = found["float32"]
    return {
        name: {
            "cpu_seconds": seconds[name],
            "speedup": median(whole / own for whole, own in zip(seconds["float32"], seconds[name], strict=True)),
            "top_10_overlap": float(np.mean([len({*row} & {*other}) / K for row, other in zip(exact, found[name], strict=True)])),
        }
        for name in models
    } | {"items": len(items), "queries": len(queries)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.embedder_formats", description=__doc__.split("\n")[0])
    parser.epilog = "example: python -m benchmarks.embedder_formats --json build/embedder-formats.json"
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--data", type=Path, default=data_folder(), help="folder of the raw files (LANGPTUNE_REAL_DATA)")
    parser.add_argument("--items", type=int, default=1_024, help="items that are embedded (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every format (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    texts = [item_text(item_from_catalogue(item)) for item in real_items(options.data / "movie-critics" / "meta.jsonl.gz")][
        : options.items
    ]
    figures = run(texts, options.rounds)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
