"""`langptune releases`: which pair of weights versions answers users, going forward and back, and what is really deployed."""

from __future__ import annotations

import getpass
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from langptune.cli.output import DEFAULT_GATEWAY, GatewayOption, JsonOption, connect, console, messages, print_json, run

if TYPE_CHECKING:
    from langptune.client import Gate, Pruned, Published, Release, ReleaseMove, ReplicaCheck, Verified

app = typer.Typer(no_args_is_help=True, help="What is live, and going forward and back. Example: langptune releases list")
ReasonOption = Annotated[str, typer.Option(help="Why, for the record.")]
ActorOption = Annotated[str, typer.Option(help="Who, for the record; your user name if not given.")]


@app.command(name="list")
def list_releases(gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """All releases, newest first, with their validation metrics; their weights versions are in --json.

    Example: langptune releases list
    """
    releases = run(_list(gateway))
    if as_json:
        print_json(releases)
        return
    table = Table()
    for column in ("release", "live", "NDCG", "recall", "MRR", "users", "from", "job"):
        table.add_column(column, justify="right" if column in ("NDCG", "recall", "MRR", "users") else "left", no_wrap=True)
    for release in releases:
        found = release.validation
        figures = (f"{found.ndcg:.4f}", f"{found.recall:.4f}", f"{found.mrr:.4f}", f"{found.users:,}") if found else ("-",) * 4
        state = "[bold green]live[/]" if release.live else "[dim]retired[/]" if release.retired else ""
        table.add_row(release.release_id, state, *figures, release.parent_release_id or "-", release.job_id or "-")
    console.print(table)


@app.command()
def publish(
    release: Annotated[str, typer.Argument(help="Release id.")],
    expected: Annotated[str, typer.Option(help="Only if this release is live now.")] = "",
    reason: ReasonOption = "",
    override_reason: Annotated[str, typer.Option(help="Publish what the gate refuses, and why; kept in the record.")] = "",
    actor: ActorOption = "",
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Load a release on every replica, verify it, then make it answer users. A candidate must pass the gate.

    Example: langptune releases publish r2 --expected r1 --reason "better on validation"
    """

    async def work() -> Published:
        async with connect(gateway) as client:
            return await client.publish_release(
                release,
                expected_live_release_id=expected,
                actor=actor or _user(),
                reason=reason,
                override_reason=override_reason,
            )

    _say(work(), as_json)


@app.command()
def rollback(
    reason: ReasonOption = "",
    actor: ActorOption = "",
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Make the release answer users that did before.

    Example: langptune releases rollback --reason "complaints about r2"
    """

    async def work() -> Published:
        async with connect(gateway) as client:
            return await client.rollback_release(actor=actor or _user(), reason=reason)

    _say(work(), as_json)


@app.command()
def gate(
    release: Annotated[str, typer.Argument(help="Release id.")],
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """What the gate says of a release against the live one, and why. Publishes nothing.

    Example: langptune releases gate r2
    """

    async def work() -> Gate:
        async with connect(gateway) as client:
            return await client.check_gate(release)

    found = run(work())
    if as_json:
        print_json(found)
        return
    console.print(f"{release} against {found.live_release_id}: [bold]{found.verdict.value}[/]", highlight=False)
    if found.users:
        console.print(
            f"NDCG {found.candidate_ndcg:.4f} against {found.live_ndcg:.4f} on {found.users:,} users, p_worse {found.p_worse:.2g}"
        )
    for sentence in found.reasons:
        console.print(f"- {sentence}", markup=False, highlight=False)


@app.command()
def verify(
    release: Annotated[str, typer.Argument(help="Release id; the live one if not given.")] = "",
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Prove what is deployed: hashes, golden log-prob and sampled rankings of every replica. Exit code 1 when one is wrong.

    Example: langptune releases verify
    """

    async def work() -> Verified:
        async with connect(gateway) as client:
            return await client.verify_release(release)

    with messages.status("Asking every replica ..."):
        found = run(work())
    if as_json:
        print_json(found)
    else:
        _show(found)
    if not found.verified:
        raise typer.Exit(1)


@app.command()
def history(gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """Every move of the live pointer, newest first: when, who, why.

    Example: langptune releases history
    """
    moves = run(_history(gateway))
    if as_json:
        print_json(moves)
        return
    table = Table()
    for column in ("when (UTC)", "release", "before", "who", "why"):
        table.add_column(column)
    for move in moves:
        when = datetime.fromtimestamp(move.time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        why = move.reason + (f" (gate overridden: {move.override_reason})" if move.override_reason else "")
        table.add_row(when, move.release_id, move.previous_release_id or "-", escape(move.actor) or "-", escape(why) or "-")
    console.print(table)


@app.command()
def prune(
    keep: Annotated[int, typer.Option(help="Newest releases that keep their weights; the trainer's setting if not given.")] = 0,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Remove the weights of old releases, never of the live one, the one before it, or what a job trains from.

    Example: langptune releases prune --keep 5
    """

    async def work() -> Pruned:
        async with connect(gateway) as client:
            return await client.prune_releases(keep)

    found = run(work())
    if as_json:
        print_json(found)
        return
    versions = len(found.encoder_versions) + len(found.decoder_versions)
    console.print(f"Retired: {', '.join(found.release_ids) or 'nothing'}; {versions:,} versions removed.", highlight=False)


def _say(work: Coroutine[Any, Any, Published], as_json: bool) -> None:
    with messages.status("Loading and verifying both versions ..."):
        published = run(work)
    if as_json:
        print_json(published)
    else:
        console.print(
            f"{published.release.release_id} is live; before: {published.previous_release_id or 'nothing'}.", highlight=False
        )


def _show(found: Verified) -> None:
    table = Table()
    for column in ("replica", "version", "files", "golden / items", "verified"):
        table.add_column(column, overflow="fold")
    for check in found.replicas:
        result = "[bold green]yes[/]" if not check.problems else f"[bold red]no[/]: {escape('; '.join(check.problems))}"
        table.add_row(f"{check.kind} {check.address}", check.version, check.digest[:12] or "base", _measured(check), result)
    console.print(table)


def _measured(check: ReplicaCheck) -> str:
    if check.kind == "encoder":
        expected = "" if check.expected_log_prob is None else f" (expected {check.expected_log_prob:.4f})"
        return "-" if check.golden_log_prob is None else f"{check.golden_log_prob:.4f}{expected}"
    return f"{check.items:,} items" + ("" if check.overlap is None else f", overlap {check.overlap:.2f}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user in a container
        return ""


async def _list(gateway: str) -> list[Release]:
    async with connect(gateway) as client:
        return [release async for release in client.list_releases()]


async def _history(gateway: str) -> list[ReleaseMove]:
    async with connect(gateway) as client:
        return [move async for move in client.list_release_moves()]
