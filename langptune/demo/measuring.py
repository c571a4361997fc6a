"""Held-out users, measured: ranking quality by release, quality of the profiles as text, and the training job that is watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from langptune.cli.events import event_line, step_figures
from langptune.cli.output import messages, phase_bars, progress
from langptune.client import LangPTune, Release, StepDone, TrainingJob, Versions
from langptune.data.dataset import Dataset
from langptune.demo.plan import DemoPlan
from langptune.demo.showing import say, sparkline
from langptune.domain import Session
from langptune.errors import FailedPrecondition
from langptune.evaluate import EvaluationOptions, Evaluator, Measured
from langptune.local import LocalSystem
from samples.measure import ProfileQuality, measure_profiles

CUTOFF = 20  # Section 4.1
REWARD = "reward_mean"


@dataclass(frozen=True)
class Training:
    """A job that has made its candidate."""

    job: TrainingJob
    rewards: list[tuple[int, float]] = field(default_factory=list)  # (step, mean reward of the batch)


async def measure_release(
    system: LocalSystem, plan: DemoPlan, release: Release, sessions: Sequence[Session], label: str, *, by_history: bool = False
) -> Measured:
    """`sessions` under `release`; the same seed for every release, so that differences are the weights'."""
    options = EvaluationOptions(
        cutoff=CUTOFF,
        samples=plan.samples,
        seed=plan.seed,
        profile_source="history" if by_history else "profile",
        max_new_tokens=plan.max_new_tokens,
    )
    versions = Versions(release.encoder_version, release.decoder_version, release.release_id)
    settings = system.settings
    async with Evaluator(settings.address("encoder"), settings.address("decoder"), options) as evaluator:
        with progress() as bars:
            return await evaluator.measure(versions, sessions, phase_bars(bars, label))


def text_quality(sessions: Sequence[Session], measured: Measured) -> ProfileQuality:
    """Truth, polarity, repetition and readability of all sampled profiles."""
    return measure_profiles(
        [(session.history, text) for session, texts in zip(sessions, measured.texts, strict=True) for text in texts]
    )


async def train(client: LangPTune, plan: DemoPlan, dataset: Dataset) -> Training:
    """Run the plan's job to its end, showing rewards as they come. Raises FailedPrecondition unless it succeeds."""
    spec = replace(plan.training, dataset_uri=str(dataset.folder), seed=plan.seed)
    job = await client.create_training_job(spec)
    rewards: list[tuple[int, float]] = []
    with progress() as bars:
        bar = bars.add_task(job.job_id, total=job.steps_total or None, note="")
        async for event in client.watch_training_job(job.job_id):
            step = event.event
            if not isinstance(step, StepDone):
                say(event_line(event))
                continue
            if REWARD in step.metrics:
                rewards.append((step.step, step.metrics[REWARD]))
            note = f"{step.phase} {step_figures(step)} {sparkline([value for _, value in rewards])}"
            bars.update(bar, completed=step.step, total=step.steps_total, note=note)
            if not messages.is_terminal and (step.step % 10 == 0 or step.step == step.steps_total):
                say(event_line(event))
    job = await client.get_training_job(job.job_id)
    if not job.release_id:
        raise FailedPrecondition(f"training job {job.job_id} is {job.state.value}: {job.error}", reason="JOB_FAILED")
    return Training(job, rewards)
