"""How much training helps on the sample world: every variant of Algorithm 1, several seeds, through the real services.

    python -m benchmarks.learning_curve --json build/learning/results.json        # `make learning`

A seed is a world, a data order and the sampling, all its own; each has its own Redis and four services. The variants train
through the trainer's RPC with the same preset, and are measured on the same held-out test users, several profiles each. The
preset was chosen on the world of seed 0, so the seeds here begin at 1: no figure is of users that anything was tuned on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from langptune.client import LangPTune, ProfileSource, Release, TrainingSpec, Versions
from langptune.data.dataset import Dataset
from langptune.domain import Session
from langptune.errors import FailedPrecondition
from langptune.evaluate import EvaluationOptions, Evaluator, Measured, compare
from langptune.local import LocalSettings, LocalSystem
from langptune.local.settings import sample_model
from samples.dataset import make_dataset
from samples.measure import measure_profiles

CUTOFF = 20  # Section 4.1
COLUMNS = ("seed", "system", "NDCG@20", "ratio", "p", "truth", "likes", "dislikes", "repetition", "grammar")
QUALITY = ("truth", "likes_truth", "dislikes_truth", "repetition", "grammar")  # the last five columns
MAX_NEW_TOKENS = 80
HISTORY_BASED = {"noprofile-0", "noprofile-cl"}


@dataclass(frozen=True)
class Plan:
    """Sizes of one run."""

    preset: str = "sample"
    seeds: tuple[int, ...] = (1, 2, 3)
    items: int = 1_200
    users: int = 6_400
    test_users: int = 1_200
    samples: int = 3  # profiles per test user
    home: Path = Path("build/learning")


def variants(preset: str) -> dict[str, TrainingSpec]:
    """What is trained, by the name of the system; the data set and the seed are not set yet."""
    base = TrainingSpec(dataset_uri="", preset=preset, validation_users=64)
    return {
        "langptune-cl": replace(base, rlso_batches=0),
        "langptune-rlso": replace(base, cl_batches=0, final_cl_batches=0),
        "langptune": base,
        "noprofile-cl": replace(base, rlso_batches=0, profile_source=ProfileSource.HISTORY),
    }


async def run_seed(plan: Plan, seed: int) -> dict[str, Any]:
    """Every variant on the world of `seed`: system -> measured figures, beside the zero-shot one."""
    home = plan.home / f"seed-{seed}"
    shutil.rmtree(home, ignore_errors=True)
    dataset = await asyncio.to_thread(make_dataset, home / "world", items=plan.items, users=plan.users, seed=seed)
    models = {"profile_model": sample_model("profile-writer"), "embedding_model": sample_model("embedder")}
    settings = LocalSettings.load(home=home / "system", **models).with_free_ports().model_copy(update={"redis_url": None})
    environment = {"LANGPTUNE_ENCODER_MAX_NEW_TOKENS": str(MAX_NEW_TOKENS)}
    async with LocalSystem(settings, environment=environment) as system, LangPTune(system.gateway_address) as client:
        await client.import_items(dataset.items.values())
        return await _measure_all(plan, seed, system, client, dataset)


async def _measure_all(plan: Plan, seed: int, system: LocalSystem, client: LangPTune, dataset: Dataset) -> dict[str, Any]:
    sessions = dataset.sessions("test")[: plan.test_users]
    live = await client.get_live_release()
    measured = {
        "langptune-0": await _evaluate(plan, seed, system, live, sessions, by_history=False),
        "noprofile-0": await _evaluate(plan, seed, system, live, sessions, by_history=True),
    }
    seconds: dict[str, float] = {}
    for name, spec in variants(plan.preset).items():
        began = time.monotonic()
        release = await _train(client, replace(spec, dataset_uri=str(dataset.folder), seed=seed))
        seconds[name] = round(time.monotonic() - began, 1)
        measured[name] = await _evaluate(plan, seed, system, release, sessions, by_history=name in HISTORY_BASED)
        ndcg = measured[name].scores.ndcg.mean()
        _say(f"seed {seed}: {name:15} NDCG@{CUTOFF} {ndcg:.4f} after {seconds[name]:.0f} s of training")
    return {name: _row(sessions, found, measured, seconds.get(name, 0.0), name) for name, found in measured.items()}


async def _train(client: LangPTune, spec: TrainingSpec) -> Release:
    job = await client.create_training_job(spec)
    async for _ in client.watch_training_job(job.job_id):
        pass
    job = await client.get_training_job(job.job_id)
    if not job.release_id:
        raise FailedPrecondition(f"training job {job.job_id} is {job.state.value}: {job.error}", reason="JOB_FAILED")
    return await client.get_release(job.release_id)


async def _evaluate(
    plan: Plan, seed: int, system: LocalSystem, release: Release, sessions: list[Session], *, by_history: bool
) -> Measured:
    options = EvaluationOptions(
        cutoff=CUTOFF,
        samples=plan.samples,
        seed=seed,
        profile_source="history" if by_history else "profile",
        max_new_tokens=MAX_NEW_TOKENS,
    )
    versions = Versions(release.encoder_version, release.decoder_version, release.release_id)
    async with Evaluator(system.settings.address("encoder"), system.settings.address("decoder"), options) as evaluator:
        return await evaluator.measure(versions, sessions)


def _row(sessions: list[Session], found: Measured, all_found: dict[str, Measured], seconds: float, name: str) -> dict[str, Any]:
    zero_shot = all_found["langptune-0"]
    row: dict[str, Any] = {
        "metrics": found.scores.summary(),
        "training_seconds": seconds,
        "against_zero_shot": {metric: asdict(test) for metric, test in compare(zero_shot.scores, found.scores).items()},
    }
    if name not in HISTORY_BASED:
        texts = [(session.history, text) for session, profiles in zip(sessions, found.texts, strict=True) for text in profiles]
        row["profiles"] = {**measure_profiles(texts).to_dict(), "tokens": found.profile_tokens}
    return row


async def run(plan: Plan) -> dict[str, Any]:
    """All seeds at once: together they keep the cores busy while single jobs wait for each other's parts."""
    began = time.monotonic()
    found = await asyncio.gather(*(run_seed(plan, seed) for seed in plan.seeds))
    seeds = dict(zip(map(str, plan.seeds), found, strict=True))
    means = {name: sum(rows[name]["metrics"]["ndcg"]["mean"] for rows in found) / len(found) for name in found[0]}
    return {
        "plan": {**asdict(plan), "home": str(plan.home)},
        "seconds": round(time.monotonic() - began, 1),
        "mean_ndcg_at_20": means,
        "full_over_noprofile_cl": means["langptune"] / means["noprofile-cl"],
        "seeds": seeds,
    }


def report(results: dict[str, Any]) -> str:
    """The results as two Markdown tables: a line per system, over all seeds; and a line per system and seed."""
    head = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    seeds = list(results["seeds"].values())
    means = [_line("all", name, [rows[name] for rows in seeds]) for name in seeds[0]]
    each = [_line(seed, name, [row]) for seed, rows in results["seeds"].items() for name, row in rows.items()]
    return "\n".join([*head, *means, "", *head, *each])


def _line(seed: str, name: str, rows: Sequence[dict[str, Any]]) -> str:
    """Means over `rows`; of the ratios the mean, of the p-values the largest."""
    tests = [row["against_zero_shot"]["ndcg"] for row in rows]
    means = [f"{fmean(test['after'] for test in tests):.4f}", f"{fmean(test['ratio'] for test in tests):.2f}"]
    worst = max(test["p_value"] for test in tests)
    texts = [f"{fmean(row['profiles'][key] for row in rows):.3f}" if "profiles" in rows[0] else "" for key in QUALITY]
    return f"| {seed} | {name} | {' | '.join([*means, f'{worst:.1e}', *texts])} |"


def findings(results: dict[str, Any]) -> str:
    """What the comparison was made to find out, in sentences."""
    means = results["mean_ndcg_at_20"]
    full = means["langptune"]
    seeds = list(results["seeds"].values())
    worse = []
    for key in QUALITY:
        before, after = (fmean(rows[name]["profiles"][key] for rows in seeds) for name in ("langptune-0", "langptune"))
        worse += [f"{key} {before:.3f} -> {after:.3f}"] if (after > before if key == "repetition" else after < before) else []
    return "\n".join(
        [
            f"full training against zero-shot: x{full / means['langptune-0']:.2f}",
            f"against CL alone: x{full / means['langptune-cl']:.2f}; against RLSO alone: x{full / means['langptune-rlso']:.2f}",
            f"full training reaches {results['full_over_noprofile_cl']:.2f} of NoProfile-CL",
            f"text that got worse: {', '.join(worse) or 'none'}",
        ]
    )


def main() -> None:
    """Parse the command line, run, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 1 (default 3)")
    parser.add_argument("--preset", default="sample", help="named setting to train with (default sample; or sample-long)")
    parser.add_argument("--test-users", type=int, default=1_200, help="held-out users of each seed (default 1,200)")
    parser.add_argument("--json", type=Path, default=Path("build/learning/results.json"), help="where the results go")
    arguments = parser.parse_args()
    plan = Plan(arguments.preset, tuple(range(1, arguments.seeds + 1)), test_users=arguments.test_users)
    results = asyncio.run(run(plan))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    _say(report(results))
    _say(findings(results))
    _say(f"{results['seconds']:.0f} s; {arguments.json}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
