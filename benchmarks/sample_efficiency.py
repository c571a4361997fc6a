"""What RLSO buys with the tokens that it generates: NDCG@20 on held-out users against tokens and against time.

    python -m benchmarks.sample_efficiency --json build/sample-efficiency/results.json       # up to 25 minutes on two cores

G = 2 (the paper's), 4 and 8 rollouts a history at the same number of rollouts a batch; with no, a weak and the preset's KL
penalty; and with a length limit that cuts many profiles, so that Gamma acts. All settings start from the same models, take the
same number of batches on the sample world of seed 0, and are measured on its validation users: this is where our defaults are
chosen, so no figure here is of test users. A seed is the order of the data and the sampling. Each run is in one process on one
thread (`experiments.in_process`), and its time is CPU time: what the wall clock says on a core of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from scipy import stats

from experiments.in_process import Material, ModelNames, Trainee
from experiments.worlds import SAMPLE_EMBEDDER, SAMPLE_ENCODER, World
from langptune.domain import Session
from langptune.ranking import ranking_quality
from samples.measure import measure_profiles
from services.trainer.learning.ports import RankQuery
from services.trainer.learning.presets import preset

WORLD_SEED = 0
MEASURED_WITH = 1 << 31  # the seed of the sampling for measurement; training seeds are small
CONFIDENCE = 0.95
CUTOFF = 20  # Section 4.1

SETTINGS: Mapping[str, Mapping[str, Any]] = {  # each replaces values of the preset's RLSO; all generate 96 rollouts a batch
    "G = 8 (preset)": {},
    "G = 4": {"samples": 4, "histories": 24},
    "G = 2 (paper)": {"samples": 2, "histories": 48},
    "no KL": {"gamma": 0.0},
    "weak KL (0.005)": {"gamma": 0.005},
    "limit 24, Gamma = 0": {"max_new_tokens": 24},
}


@dataclass(frozen=True)
class Plan:
    """Sizes of one run."""

    seeds: tuple[int, ...] = (0, 1, 2)
    batches: int = 30
    points: int = 5  # measurements after the one before training
    users: int = 640  # validation users
    settings: tuple[str, ...] = tuple(SETTINGS)


def train(plan: Plan, setting: str, seed: int) -> list[dict[str, Any]]:
    """One training run, measured now and then: a row per measurement, the first before training."""
    torch.set_num_threads(1)
    return asyncio.run(_train(plan, setting, seed))


async def _train(plan: Plan, setting: str, seed: int) -> list[dict[str, Any]]:
    contrastive = {"batches": 0, "final_batches": 0}
    over = {"seed": seed, "outer_iterations": 1, "contrastive": contrastive}
    config = preset("sample", {**over, "rlso": {"batches": plan.batches, **SETTINGS[setting]}})
    world = World.of(WORLD_SEED)
    trainee = Trainee(config, Material(world.items, world.splits["train"]), ModelNames(SAMPLE_ENCODER, SAMPLE_EMBEDDER))
    sessions = world.splits["validation"][: plan.users]

    async def row(step: int, seconds: float) -> dict[str, Any]:
        found = await measure(trainee, sessions, MEASURED_WITH + seed)
        about = {"setting": setting, "seed": seed, "batches": step, "generated_tokens": trainee.tokens}
        return about | {"seconds": round(seconds, 2)} | found

    rows = [await row(0, 0.0)]
    steps = {round(plan.batches * point / plan.points) for point in range(1, plan.points + 1)}
    seconds, began = 0.0, time.process_time()
    async for progress in trainee.algorithm.run():
        if progress.step in steps:  # the clock stands still while we measure
            seconds += time.process_time() - began
            rows.append(await row(progress.step, seconds))
            began = time.process_time()
    return rows


async def measure(trainee: Trainee, sessions: Sequence[Session], seed: int) -> dict[str, float]:
    """NDCG@20, tokens and text quality of one profile for each session, as flat values."""
    await trainee.rewards.use(trainee.embedder)
    profiles = [rollouts[0] for rollouts in trainee.write([session.history for session in sessions], 1, seed)]
    queries = [
        RankQuery(profile.text, session.target_item_ids, tuple(entry.item.item_id for entry in session.history))
        for session, profile in zip(sessions, profiles, strict=True)
    ]
    gains = [ranking_quality(ranks, CUTOFF).ndcg for ranks in await trainee.rewards.ranks(queries)]
    tokens = float(np.mean([len(profile.token_ids) for profile in profiles]))
    quality = measure_profiles([(session.history, profile.text) for session, profile in zip(sessions, profiles, strict=True)])
    return {"ndcg": float(np.mean(gains)), "users": len(gains), "tokens_per_profile": tokens, **quality.to_dict()}


def run(plan: Plan, processes: int) -> dict[str, Any]:
    """Every setting with every seed."""
    began = time.monotonic()
    os.environ["OMP_NUM_THREADS"] = "1"
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        tasks = [pool.submit(train, plan, setting, seed) for seed in plan.seeds for setting in plan.settings]
        for done, task in enumerate(as_completed(tasks), start=1):
            rows += task.result()
            last = rows[-1]
            _say(f"{done}/{len(tasks)} {last['setting']:22} seed {last['seed']}: NDCG@20 {last['ndcg']:.4f}")
    rows.sort(key=lambda row: (plan.settings.index(row["setting"]), row["seed"], row["batches"]))
    base = {**dict(preset("sample").rlso), "batches": plan.batches}
    settings = {name: {**base, **SETTINGS[name]} for name in plan.settings}
    return {
        "plan": {"seeds": plan.seeds, "batches": plan.batches, "users": plan.users, "processes": processes},
        "wall_seconds": round(time.monotonic() - began, 1),
        "settings": settings,
        "last": {name: summary(rows, name) for name in plan.settings},
        "rows": rows,
    }


def summary(rows: Sequence[Mapping[str, Any]], setting: str) -> dict[str, float]:
    """Means over the seeds of the last measurement of `setting`, with the half width of the interval of NDCG."""
    own = [row for row in rows if row["setting"] == setting]
    last = [row for row in own if row["batches"] == max(other["batches"] for other in own)]
    keys = ("ndcg", "generated_tokens", "seconds", "tokens_per_profile", "truth", "likes_truth", "dislikes_truth", "repetition")
    means = {key: float(np.mean([row[key] for row in last])) for key in (*keys, "grammar")}
    return means | {"ndcg_half_width": half_width([row["ndcg"] for row in last])}


def half_width(values: Sequence[float]) -> float:
    """Of the 95 % t-interval of the mean; 0.0 for a single value."""
    if len(values) < 2:
        return 0.0
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def draw(results: Mapping[str, Any], path: Path) -> None:
    """NDCG@20 against generated tokens and against CPU seconds: a line a setting, with its band over the seeds."""
    matplotlib.use("Agg")
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 5), sharey=True)
    for axis, key, label in zip(
        axes, ("generated_tokens", "seconds"), ("generated tokens", "CPU seconds of training"), strict=True
    ):
        for name in results["settings"]:
            _line(axis, [row for row in results["rows"] if row["setting"] == name], key, name)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"NDCG@20, {results['plan']['users']} validation users")
    axes[0].legend(fontsize=8)
    figure.suptitle(f"RLSO on the sample world, {len(results['plan']['seeds'])} seeds, bands: 95 % t-intervals of the mean")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _line(axis: Axes, rows: Sequence[Mapping[str, Any]], key: str, name: str) -> None:
    steps = sorted({row["batches"] for row in rows})
    at = [[row for row in rows if row["batches"] == step] for step in steps]
    places = [float(np.mean([row[key] for row in some])) for some in at]
    means = np.array([np.mean([row["ndcg"] for row in some]) for some in at])
    widths = np.array([half_width([row["ndcg"] for row in some]) for some in at])
    (line,) = axis.plot(places, means, marker="o", markersize=3, label=name)
    axis.fill_between(places, means - widths, means + widths, color=line.get_color(), alpha=0.12)


def report(results: Mapping[str, Any]) -> str:
    """A Markdown table: a line per setting, after its last batch."""
    lines = ["| setting | NDCG@20 | generated tokens | CPU s | tokens a profile | truth | likes | dislikes | repetition |"]
    lines.append("|---" * 9 + "|")
    for name, last in results["last"].items():
        keys = ("truth", "likes_truth", "dislikes_truth", "repetition")
        cells = [f"{last['ndcg']:.4f} ± {last['ndcg_half_width']:.4f}", f"{last['generated_tokens']:,.0f}"]
        cells += [f"{last['seconds']:.0f}", f"{last['tokens_per_profile']:.1f}", *(f"{last[key]:.3f}" for key in keys)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, run, draw, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("build/sample-efficiency/results.json"), help="where the results go")
    parser.add_argument("--picture", type=Path, help="where the PNG goes (default: beside the results)")
    parser.add_argument("--processes", type=int, default=2, help="runs at the same time, one thread each (default 2)")
    parser.add_argument("--quick", action="store_true", help="2 settings, 2 seeds, 2 batches, 64 users: does it run at all?")
    arguments = parser.parse_args()
    quick = Plan(seeds=(0, 1), batches=2, points=2, users=64, settings=tuple(SETTINGS)[:2])
    results = run(quick if arguments.quick else Plan(), arguments.processes)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    picture = arguments.picture or arguments.json.with_suffix(".png")
    draw(results, picture)
    _say(report(results))
    _say(f"{results['wall_seconds']:.0f} s; {arguments.json}, {picture}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
