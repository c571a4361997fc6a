"""What a second device does for the building of an index: texts a second by one copy of the embedder, and by several.

    python -m benchmarks.build_devices --json build/build-devices.json [--devices cpu,cpu]     # about two minutes

Item texts of the real catalogue movie-critics and all-MiniLM-L6-v2, embedded by the worker that builds versions
(LANGPTUNE_DECODER_BUILD_DEVICES), with the first device alone and with all, in turns. Each device has one CPU thread. `ratio` is
the median of the turns' ratios of wall time; the vectors of both are compared before anything is written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.decoder import real_items
from benchmarks.real_input import data_folder, minilm_folder
from langptune.convert import item_from_catalogue
from langptune.text import item_text
from services.decoder.embedder import Embedder
from services.decoder.settings import DecoderSettings
from services.decoder.threads import set_threads
from services.decoder.worker import EmbeddingWorker


async def measure(texts: list[str], devices: list[str], rounds: int) -> dict[str, Any]:
    """Seconds by number of devices and round, and their ratio."""
    settings = DecoderSettings()
    copies = [Embedder.load(str(minilm_folder()), settings, device) for device in devices]
    workers = {"one": EmbeddingWorker(copies[0]), "all": EmbeddingWorker(*copies)}
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    found: dict[str, NDArray[np.float32]] = {}
    for _ in range(rounds):
        for name, worker in workers.items():
            began = time.perf_counter()
            embedded = await worker.embed(texts)
            seconds[name].append(time.perf_counter() - began)
            found[name] = np.array([result.vector for result in embedded])
    for worker in workers.values():
        worker.close()
    np.testing.assert_allclose(found["all"], found["one"], atol=1e-5)
    return {
        "devices": devices,
        "cores": os.cpu_count(),
        "texts": len(texts),
        "seconds": seconds,
        "texts_per_second": {name: len(texts) / median(times) for name, times in seconds.items()},
        "ratio": median(one / several for one, several in zip(seconds["one"], seconds["all"], strict=True)),
    }


def main() -> None:
    """Parse the command line, run, write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.build_devices", description=__doc__.split("\n")[0])
    parser.epilog = "example: python -m benchmarks.build_devices --json build/build-devices.json --devices cuda:0,cuda:1"
    parser.add_argument("--json", type=Path, required=True, help="where the figures go")
    parser.add_argument("--data", type=Path, default=data_folder(), help="folder of the raw files (LANGPTUNE_REAL_DATA)")
    parser.add_argument("--devices", default="cpu,cpu", help="torch devices, with commas between (default: %(default)s)")
    parser.add_argument("--items", type=int, default=512, help="items that are embedded (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: %(default)s)")
    options = parser.parse_args()
    set_threads(1)
    catalogue = real_items(options.data / "movie-critics" / "meta.jsonl.gz")
    texts = [item_text(item_from_catalogue(item)) for item in catalogue][: options.items]
    figures = asyncio.run(measure(texts, options.devices.split(","), options.rounds))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.stdout.write(json.dumps({name: figures[name] for name in ("texts_per_second", "ratio")}, indent=2) + "\n")


if __name__ == "__main__":
    main()
