"""How fast raw reviews become a data set, and in how much memory: `langptune data prepare` against a plain pandas version.

    python -m benchmarks.data --json build/data/results.json [--quick] [--reviews 1000000] [--no-baseline]

Both read the same generated files (`data_world.py`) and take the same steps to the same result (a test holds them against each
other); both are processes of their own with one thread, start-up included. Ours runs as where pandas is not installed, since
pyarrow imports it wherever it finds it (half a second). `ratio` is wall time, baseline over ours; `cpu_ratio` the same in CPU
time, which other work on the machine disturbs less. Memory is a process's peak resident set. Ours is measured at two sizes; the
slope between them gives `mib_per_million_reviews`, and the straight line through them `gib_at_full_category`, at the 17.3M
reviews of Movies and TV. `--no-baseline --reviews 17300000` measures that size instead (12 GB of disk).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FULL_CATEGORY = 17_300_000  # reviews of Movies and TV
SMALLER = 4  # the second size is this many times smaller
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


def spend(module: str, *arguments: object, path: Path | None = None) -> Cost:
    """Run a Python module to its end, with `path` searched first. Raises CalledProcessError if it fails."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    began = time.monotonic()
    environment = {**os.environ, **_ENVIRONMENT}
    if path:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), *filter(None, [environment.get("PYTHONPATH")])])
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10  # ru_maxrss is in bytes there, in KiB here
    seconds = time.monotonic() - began
    return Cost(round(seconds, 2), round(usage.ru_utime + usage.ru_stime, 2), round(usage.ru_maxrss / unit, 1))


def measure(reviews: int, home: Path, say: Callable[[str], None], *, baseline: bool = True) -> dict[str, Any]:
    """Write the files of both sizes below `home`, prepare them, and return what was seen."""
    small, counts, _ = _ours(max(1, reviews // SMALLER), home / "small", say)
    large, counts, files = _ours(reviews, home / "large", say)
    slope = (large.peak_mib - small.peak_mib) / (reviews - max(1, reviews // SMALLER))  # MiB per review
    result: dict[str, Any] = {
        "reviews": reviews,
        "file_mib": round(sum(file.stat().st_size for file in files) / (1 << 20), 1),
        "prepared": counts,
        "ours": asdict(large),
        "ours_smaller": asdict(small),
        "reviews_per_second": round(reviews / large.seconds),
        "mib_per_million_reviews": round(slope * 1e6, 1),
        "gib_at_full_category": round((large.peak_mib + slope * (FULL_CATEGORY - reviews)) / 1024, 2),
    }
    if baseline:
        say(f"{reviews:,} reviews: pandas, row by row")
        plain = spend("benchmarks.data_plain", "--reviews", files[0], "--metadata", files[1], "--json", home / "plain.json")
        result |= {
            "pandas": asdict(plain),
            "ratio": round(plain.seconds / large.seconds, 2),
            "cpu_ratio": round(plain.cpu_seconds / large.cpu_seconds, 2),
            "memory_ratio": round(plain.peak_mib / large.peak_mib, 2),
        }
    return result


def _ours(reviews: int, home: Path, say: Callable[[str], None]) -> tuple[Cost, dict[str, int], tuple[Path, Path]]:
    say(f"{reviews:,} reviews: writing the raw files")
    spend("benchmarks.data_world", "--reviews", reviews, "--out", home)
    files = home / "reviews.jsonl", home / "meta.jsonl"
    say(f"{reviews:,} reviews: langptune data prepare")
    out = home / "prepared"
    options = ("--reviews", files[0], "--metadata", files[1], "--out", out, "--json")
    cost = spend("langptune.cli", "data", "prepare", *options, path=_without_pandas(home / "path"))
    return cost, json.loads((out / "dataset.json").read_text())["counts"], files


def _without_pandas(folder: Path) -> Path:
    """A folder that makes Python find no pandas, as where it is not installed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pandas.py").write_text('raise ImportError("hidden by the benchmark")\n')
    return folder


def main() -> None:
    """Parse the command line, measure, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("build/data/results.json"), help="where the results go")
    parser.add_argument("--reviews", type=int, help="reviews in the raw file (default 1,000,000; with --quick 100,000)")
    parser.add_argument("--quick", action="store_true", help="a small file: does it run?")
    parser.add_argument("--baseline", action=argparse.BooleanOptionalAction, default=True, help="the pandas version as well")
    arguments = parser.parse_args()
    reviews = arguments.reviews or (100_000 if arguments.quick else 1_000_000)
    with tempfile.TemporaryDirectory(prefix="langptune-data-") as home:
        result = measure(reviews, Path(home), lambda line: _write(sys.stderr, line), baseline=arguments.baseline)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    _write(sys.stdout, json.dumps(result, indent=2))


def _write(stream: Any, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
