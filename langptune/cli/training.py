"""`langptune train`: training jobs, from the start to the candidate."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from langptune.cli.events import event_line, step_figures
from langptune.cli.output import (
    DEFAULT_GATEWAY,
    MAX_COUNT,
    MAX_SEED,
    GatewayOption,
    JsonOption,
    connect,
    console,
    messages,
    print_json,
    progress,
    run,
)
from langptune.cli.plans import show_plan
from langptune.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from langptune.client import TrainingJob, TrainingPlan, TrainingSpec

app = typer.Typer(no_args_is_help=True, help="Training jobs. Example: langptune train start build/sample-world --watch")
JobArgument = Annotated[str, typer.Argument(help="Job id.")]


@app.command()
def start(
    dataset: Annotated[Path, typer.Argument(help="Folder of a prepared data set that the trainer can read.")],
    preset: Annotated[str, typer.Option(help="Named hyperparameters.")] = "sample",
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Of everything that is random in the job.")] = 0,
    outer_iterations: Annotated[
        int | None, typer.Option(min=0, max=MAX_COUNT, help="K: outer iterations of Algorithm 1.")
    ] = None,
    cl_batches: Annotated[
        int | None, typer.Option(min=0, max=MAX_COUNT, help="J: contrastive batches per outer iteration.")
    ] = None,
    rlso_batches: Annotated[int | None, typer.Option(min=0, max=MAX_COUNT, help="T: RLSO batches per outer iteration.")] = None,
    final_cl_batches: Annotated[
        int | None, typer.Option(min=0, max=MAX_COUNT, help="Contrastive batches after the last RLSO batch.")
    ] = None,
    profile_source: Annotated[str | None, typer.Option(help="profile, or history (NoProfile in the paper).")] = None,
    parent: Annotated[str, typer.Option(help="Release to start from; default: the live one.")] = "",
    validation_users: Annotated[
        int | None, typer.Option(min=0, max=MAX_COUNT, help="Users to measure the candidate on, at most.")
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="That train together, one to a GPU. Changes no result.")] = None,
    override: Annotated[list[str] | None, typer.Option("--set", help="Another hyperparameter, as NAME=VALUE.")] = None,
    job_id: Annotated[str, typer.Option(help="Chosen by you, for starting at most once.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and show the plan; start nothing.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show rewards and metrics as they come.")] = False,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Start a training job.

    Example: langptune train start build/sample-world --rlso-batches 30 --set rlso.learning_rate=1e-4 --watch
    What would it take: langptune train start build/sample-world --preset paper/gemma-2b-it --processes 8 --dry-run
    """
    from langptune.client import ProfileSource, TrainingSpec

    if profile_source not in (None, "profile", "history"):
        raise InvalidArgument("--profile-source", f"must be profile or history, not {profile_source!r}")
    spec = TrainingSpec(
        dataset_uri=str(dataset.absolute()),
        preset=preset,
        seed=seed,
        outer_iterations=outer_iterations,
        cl_batches=cl_batches,
        rlso_batches=rlso_batches,
        final_cl_batches=final_cl_batches,
        profile_source=ProfileSource(profile_source) if profile_source else None,
        parent_release_id=parent,
        validation_users=validation_users,
        overrides=dict(_assignment(text) for text in override or ()),
        processes=processes,
    )
    if dry_run:
        plan = run(_plan(gateway, spec))
        print_json(plan) if as_json else show_plan(plan)
        return
    job = run(_start(gateway, spec, job_id))
    if watch:
        _watch_to_end(gateway, job.job_id, as_json)
    elif as_json:
        print_json(job)
    else:
        console.print(f"Started {job.job_id}. See it with: langptune train watch {job.job_id}", highlight=False)


@app.command()
def watch(job: JobArgument, gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """Show a job's rewards and metrics as they come, from its first step. Ctrl-C leaves the job running.

    Example: langptune train watch job-1
    """
    _watch_to_end(gateway, job, as_json)


@app.command(name="list")
def list_jobs(gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """All jobs, newest first.

    Example: langptune train list
    """
    jobs = run(_list(gateway))
    if as_json:
        print_json(jobs)
        return
    table = Table()
    for column in ("job", "state", "steps", "started (UTC)", "release", "data set", "error"):
        table.add_column(column)
    for job in jobs:
        when = datetime.fromtimestamp(job.start_time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M") if job.start_time_ms else "-"
        steps = f"{job.steps_done}/{job.steps_total}"
        told = (Text(job.spec.dataset_uri), Text(job.error))
        table.add_row(job.job_id, job.state.value, steps, when, job.release_id or "-", *told)
    console.print(table)


@app.command()
def cancel(job: JobArgument, gateway: GatewayOption = DEFAULT_GATEWAY, as_json: JsonOption = False) -> None:
    """Ask a job to stop after the step in hand; give up a failed one, which removes its checkpoints.

    Example: langptune train cancel job-1
    """
    cancelled = run(_cancel(gateway, job))
    if as_json:
        print_json(cancelled)
    else:
        note = "." if cancelled.state.ended else ", and stops after the step in hand."
        console.print(f"{cancelled.job_id} is {cancelled.state.value}{note}", highlight=False)


@app.command()
def resume(
    job: JobArgument,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="Another guard, as NAME=VALUE, e.g. guards.kl.action=warn.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show rewards and metrics as they come.")] = False,
    gateway: GatewayOption = DEFAULT_GATEWAY,
    as_json: JsonOption = False,
) -> None:
    """Let a failed job go on from its newest checkpoint; one that a guard stopped, from its best.

    Example: langptune train resume job-1 --set guards.kl.above=40 --watch
    """
    resumed = run(_resume(gateway, job, dict(_assignment(text) for text in override or ())))
    if watch:
        _watch_to_end(gateway, job, as_json)
    elif as_json:
        print_json(resumed)
    else:
        steps = f"after step {resumed.steps_done} of {resumed.steps_total} or a little before"
        console.print(f"{resumed.job_id} goes on {steps}. See it with: langptune train watch {resumed.job_id}", highlight=False)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidArgument("--set", f"must be NAME=VALUE, not {text!r}")
    return name, value


def _watch_to_end(gateway: str, job_id: str, as_json: bool) -> None:
    job = run(_follow(gateway, job_id, as_json))
    if as_json:
        print_json(job)
    if job.error:
        raise FailedPrecondition(f"{job.job_id} failed: {job.error}", reason="JOB_FAILED")


async def _follow(gateway: str, job_id: str, as_json: bool) -> TrainingJob:
    from langptune.client import StepDone

    async with connect(gateway) as client:
        with progress(quiet=as_json) as bars:
            bar = bars.add_task(job_id, total=None, note="")
            async for event in client.watch_training_job(job_id):
                step = event.event
                if isinstance(step, StepDone):
                    note = f"{step.phase} {step_figures(step)}"
                    bars.update(bar, completed=step.step, total=step.steps_total, note=note)
                if not as_json and not (isinstance(step, StepDone) and messages.is_terminal):
                    console.print(event_line(event), highlight=False, markup=False)
        return await client.get_training_job(job_id)


async def _plan(gateway: str, spec: TrainingSpec) -> TrainingPlan:
    async with connect(gateway) as client:
        return await client.plan_training_job(spec)


async def _start(gateway: str, spec: TrainingSpec, job_id: str) -> TrainingJob:
    async with connect(gateway) as client:
        return await client.create_training_job(spec, job_id=job_id)


async def _list(gateway: str) -> list[TrainingJob]:
    async with connect(gateway) as client:
        return [job async for job in client.list_training_jobs()]


async def _resume(gateway: str, job_id: str, guards: dict[str, str]) -> TrainingJob:
    async with connect(gateway) as client:
        return await client.resume_training_job(job_id, guards=guards)


async def _cancel(gateway: str, job_id: str) -> TrainingJob:
    async with connect(gateway) as client:
        return await client.cancel_training_job(job_id)
