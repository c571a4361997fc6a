"""Figure 5: embeddings of profiles by t-SNE, length against similarity to the target, and the reward in training.

All three for one seed, the first. Neither LangPTune-0 nor LangPTune-RLSO trains the embedder, so one embedder, untrained, serves
for all texts (Section 4.7). The curve is LangPTune-RLSO's own record of its training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from experiments.beyond.cache import Measure
from experiments.beyond.reopen import Reopened
from experiments.runs import Result, RunSpec
from experiments.settings import Settings
from experiments.systems import entry
from experiments.systems.language import TRAINING
from experiments.tables.base import Experiment, Report
from experiments.tables.pooling import by_system, cell
from langptune.evaluate.scores import estimate

SYSTEMS = ("noprofile-0", "langptune-0", "langptune-rlso")
MAPPED = ("langptune-0", "langptune-rlso")
SEED = 1
SMOOTH = 5  # batches in a moving mean of the reward


def _plan(settings: Settings) -> list[RunSpec]:
    return [spec for spec in settings.specs(SYSTEMS) if spec.seed == SEED]


def measure(result: Result) -> dict[str, Any]:
    """Vectors, lengths in tokens of the embedder, and the similarity of every text to its user's target."""
    run = Reopened(result)
    texts = [text.text for text in run.texts]
    targets = [run.positions[session.target_item_ids[0]] for session in run.sessions]
    scores = run.similarities(texts)
    tokenizer = run.trainee.embedder.model.tokenizer
    return {
        "vectors": run.trainee.rewards.embed(texts).round(5).tolist(),
        "tokens": [len(ids) for ids in tokenizer(texts, truncation=False, verbose=False)["input_ids"]],
        "similarity": scores[np.arange(len(texts)), targets].tolist(),
    }


def _report(settings: Settings, results: Sequence[Result]) -> Report:
    runs = {name: own[0] for name, own in by_system(results).items()}
    found = Measure("figure5", {}, measure).of(list(runs.values()), settings)
    taken = {name: found[run.folder.name] for name, run in runs.items()}
    reward = _reward(runs["langptune-rlso"])
    rows, metrics = [], {}
    for name, own in taken.items():
        tokens, similarity = (estimate(np.array(own[key], dtype=np.float64)) for key in ("tokens", "similarity"))
        spread = spread_of(np.array(own["vectors"]))
        metrics[name] = {"tokens": asdict(tokens), "similarity": asdict(similarity), "spread": spread}
        rows.append((entry(name).title, cell(tokens, ".1f"), cell(similarity), f"{spread:.3f}"))
    metrics["reward"] = {"batches": reward.tolist()}
    notes = [
        f"Seed {SEED}, {len(taken['langptune-0']['tokens']):,} test users, the untrained embedder. Spread: mean cosine distance "
        "of a text's vector from the mean direction, 0 where all are alike.",
        f"LangPTune-RLSO's mean reward: {_ends(reward)}.",
    ]
    head = ("method", "length, tokens", "similarity to the target", "spread of the embeddings")
    return Report("Figure 5: profiles before and after RLSO", head, rows, notes, metrics, _draw(taken, reward))


def spread_of(vectors: NDArray[np.floating]) -> float:
    """1 - length of the mean of unit vectors [n, D]: the mean cosine distance to their mean direction."""
    return float(1.0 - np.linalg.norm(vectors.mean(axis=0)))


def _reward(result: Result) -> NDArray[np.float64]:
    """reward_mean of every RLSO batch."""
    table = pq.read_table(result.folder / TRAINING, columns=["phase", "reward_mean"]).to_pylist()
    return np.array([row["reward_mean"] for row in table if row["phase"] == "rlso"], dtype=np.float64)


def _ends(reward: NDArray[np.float64]) -> str:
    tenth = max(1, len(reward) // 10)
    return f"{reward[:tenth].mean():.4f} in the first tenth of the batches, {reward[-tenth:].mean():.4f} in the last"


def _draw(taken: Mapping[str, Mapping[str, Any]], reward: NDArray[np.float64]) -> Figure:
    figure = Figure(figsize=(13, 4))
    left, middle, right = figure.subplots(1, 3)
    _draw_map(left, {name: np.array(taken[name]["vectors"]) for name in MAPPED})
    for name, found in taken.items():
        middle.scatter(found["tokens"], found["similarity"], s=4, alpha=0.4, label=entry(name).title)
    middle.set(xlabel="length, tokens", ylabel="similarity to the target", title="length and similarity")
    middle.legend(markerscale=3)
    width = min(SMOOTH, len(reward))
    right.plot(reward, alpha=0.35, label="batch")
    right.plot(np.arange(width - 1, len(reward)), np.convolve(reward, np.ones(width) / width, "valid"), label=f"mean of {width}")
    right.set(xlabel="RLSO batch", ylabel="mean reward (NDCG)", title="LangPTune-RLSO in training")
    right.legend()
    figure.tight_layout()
    return figure


def _draw_map(axis: Axes, vectors: Mapping[str, NDArray[np.floating]]) -> None:
    """t-SNE of all vectors together, perplexity 30 or what their number allows."""
    together = np.concatenate(list(vectors.values()))
    perplexity = min(30.0, (len(together) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(together)
    begin = 0
    for name, own in vectors.items():
        part = places[begin : begin + len(own)]
        axis.scatter(part[:, 0], part[:, 1], s=4, alpha=0.5, label=entry(name).title)
        begin += len(own)
    axis.set(xticks=[], yticks=[], title="profile embeddings, t-SNE")
    axis.legend(markerscale=3)


FIGURE_5 = Experiment("profiles before and after RLSO", _plan, _report)
