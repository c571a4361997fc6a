"""`langptune evaluate`: the metrics table on a prepared data set, through the running services."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from langptune.cli.output import (
    DEFAULT_GATEWAY,
    MAX_SEED,
    GatewayOption,
    JsonOption,
    check_address,
    connect,
    console,
    phase_bars,
    print_json,
    progress,
    run,
)
from langptune.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langptune.client import Release
    from langptune.data.dataset import Dataset
    from langptune.domain import Session
    from langptune.evaluate import EvaluationOptions, Evaluator, Measured


class Split(StrEnum):
    """Which users."""

    VALIDATION = "validation"
    TEST = "test"


class Source(StrEnum):
    """What is ranked by."""

    PROFILE = "profile"
    HISTORY = "history"


def evaluate(
    dataset: Annotated[Path, typer.Argument(help="Folder of a prepared data set whose items are in the catalogue.")],
    release: Annotated[str, typer.Option(help="Release to measure; default: the live one.")] = "",
    against: Annotated[str, typer.Option(help="Another release, measured on the same users, with a paired t-test.")] = "",
    split: Annotated[Split, typer.Option(help="Which users.")] = Split.TEST,
    users: Annotated[int, typer.Option(min=0, help="The first so many of them; 0 for all.")] = 0,
    samples: Annotated[int, typer.Option(min=1, max=64, help="Profiles per user; a user's score is their mean.")] = 4,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of the sampled profiles.")] = 0,
    cutoff: Annotated[int, typer.Option(min=1, max=1_000, help="Places that count.")] = 20,
    profile_source: Annotated[Source, typer.Option(help="history: rank by the raw history's text.")] = Source.PROFILE,
    out: Annotated[Path | None, typer.Option(help="Write everything, per-user scores included, to this JSON file.")] = None,
    encoder: Annotated[str, typer.Option(metavar="HOST:PORT", envvar="LANGPTUNE_ENCODER_ADDRESS")] = "127.0.0.1:50052",
    decoder: Annotated[str, typer.Option(metavar="HOST:PORT", envvar="LANGPTUNE_DECODER_ADDRESS")] = "127.0.0.1:50053",
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Recall, MRR and NDCG of a release, with 95 % confidence intervals, beside Random and Most Popular.

    Example: langptune evaluate build/sample-world --users 1200 --against r1 --out evaluation.json
    """
    from langptune.data.dataset import Dataset
    from langptune.evaluate import EvaluationOptions, Evaluator
    from langptune.rpc.tls import peer_tls
    from langptune.settings import ServiceSettings

    data = Dataset.open(dataset)
    chosen = data.sessions(split.value)[: users or None]
    if not chosen:
        raise FailedPrecondition(f"{dataset} has no {split.value} users", reason="NO_USERS")
    options = EvaluationOptions(
        cutoff=cutoff, samples=samples, seed=seed, profile_source=profile_source.value, domain=data.domain
    )
    addresses = check_address("--encoder", encoder), check_address("--decoder", decoder)
    began = time.monotonic()
    evaluator = Evaluator(*addresses, options, tls=peer_tls(ServiceSettings.load()))
    measured = run(_measure(gateway, evaluator, chosen, [release, *([against] if against else [])], as_json))
    report = _report(data, split.value, chosen, options, measured)
    report["seconds"] = round(time.monotonic() - began, 2)
    if out:
        _write(out, report)
    report.pop("per_user")
    if as_json:
        print_json(report)
    else:
        _show(report)


async def _measure(
    gateway: str, evaluator: Evaluator, sessions: Sequence[Session], releases: Sequence[str], quiet: bool
) -> list[tuple[Release, Measured]]:
    from langptune.client import Versions

    found = []
    async with connect(gateway) as client, evaluator:
        for name in releases:
            release = await (client.get_release(name) if name else client.get_live_release())
            versions = Versions(release.encoder_version, release.decoder_version, release.release_id)
            with progress(quiet=quiet) as bars:
                found.append((release, await evaluator.measure(versions, sessions, phase_bars(bars, release.release_id))))
    return found


def _report(
    dataset: Dataset,
    split: str,
    sessions: Sequence[Session],
    options: EvaluationOptions,
    measured: Sequence[tuple[Release, Measured]],
) -> dict[str, Any]:
    from langptune.evaluate import compare, popularity_scores, random_scores

    baselines = {
        "Random": random_scores(dataset, sessions, options.cutoff),
        "Most Popular": popularity_scores(dataset, sessions, options.cutoff, options.seed),
    }
    systems = {release.release_id: found.scores for release, found in measured}
    report: dict[str, Any] = {
        "dataset": {"name": dataset.name, "content_hash": dataset.content_hash, "split": split, "items": len(dataset.items)},
        "options": asdict(options),
        "users": len(sessions),
        "catalogue_size": measured[0][1].catalogue_size,
        "truncated_texts": {release.release_id: found.truncated for release, found in measured},
        "profile_tokens": {release.release_id: found.profile_tokens for release, found in measured},
        "baselines": {name: scores.summary() for name, scores in baselines.items()},
        "releases": {name: scores.summary() for name, scores in systems.items()},
        "per_user": {name: scores.per_user() for name, scores in {**baselines, **systems}.items()},
    }
    if len(measured) > 1:
        (release, found), (other, before) = measured[0], measured[1]
        compared = compare(before.scores, found.scores)
        report["comparison"] = {
            "before": other.release_id,
            "after": release.release_id,
            **{name: asdict(result) for name, result in compared.items()},
        }
    return report


def _write(path: Path, report: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
    except OSError as error:
        raise FailedPrecondition(f"{path} cannot be written: {error.strerror}", reason="STORAGE") from None


def _show(report: dict[str, Any]) -> None:
    cutoff = report["options"]["cutoff"]
    title = f"{report['dataset']['name']}, {report['users']:,} {report['dataset']['split']} users (95 % confidence)"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in (f"Recall@{cutoff}", f"MRR@{cutoff}", f"NDCG@{cutoff}"):
        table.add_column(name, justify="right")
    for label, metrics in {**report["baselines"], **report["releases"]}.items():
        cells = (metrics[name] for name in ("recall", "mrr", "ndcg"))
        table.add_row(label, *(f"{cell['mean']:.4f} ± {cell['high'] - cell['mean']:.4f}" for cell in cells))
    console.print(table)
    if "comparison" in report:
        compared = report["comparison"]
        for name in ("recall", "mrr", "ndcg"):
            result = compared[name]
            console.print(
                f"{name.upper():6} {compared['before']} -> {compared['after']}: x{result['ratio']:.3f}, "
                f"paired t-test p = {result['p_value']:.2g}",
                highlight=False,
            )
    if report["catalogue_size"] != report["dataset"]["items"]:
        console.print(f"Note: ranked were {report['catalogue_size']:,} items, the data set has {report['dataset']['items']:,}.")
