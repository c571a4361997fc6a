"""The trainer's metrics, each defined in docs/operations.md.

What is said of jobs, the release in force and the open publish comes out of Redis (`monitor`), so every replica of the trainer
tells the same, whoever did the work, and a restarted one goes on where it was: aggregate with `max`. Only publishes are counted
by the replica that does them. The label `training_job` is bounded by the number of jobs that run: a series ends with its job, and
what a job's curve was is in TensorBoard and in its events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

PUBLISHES = Counter(
    "langptune_publishes", "Publishes and rollbacks by outcome: published, refused (the gate), failed.", ["outcome"]
)
PUBLISH_SECONDS = Histogram(
    "langptune_publish_seconds",
    "From the begin of a publish to the moment that its release is live.",
    buckets=(1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600),
)
for _outcome in ("published", "refused", "failed"):
    PUBLISHES.labels(_outcome)

# Of the newest step of a running job; docs/metrics.md says what each is.
STEP_METRICS = (
    *("loss", "gradient_norm", "reward_mean", "reward_std", "kl", "logprob_gap"),
    *("response_tokens", "truncated_share", "distinct_2", "copied_share"),
    *("seconds_rollouts", "seconds_rewards", "seconds_update"),
)


@dataclass(frozen=True, slots=True)
class RunningJob:
    """What the newest events of a running job say."""

    job_id: str
    steps_done: int
    steps_total: int
    silent_seconds: float  # since the worker's last sign of life
    steps: Mapping[str, Mapping[str, float]]  # phase -> metric -> value in its newest step
    validation: Mapping[str, float]  # before | after -> NDCG


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at Redis found."""

    jobs_by_state: Mapping[str, int] = field(default_factory=dict)
    running: tuple[RunningJob, ...] = ()
    release: Mapping[str, str] = field(default_factory=dict)  # release, encoder_version, decoder_version; empty before the first
    publish_open_seconds: float = 0.0  # of the publish that runs or waits to be taken up; 0 for none


_OF_JOB: tuple[tuple[str, str, Callable[[RunningJob], float]], ...] = (
    ("langptune_training_steps_done", "Steps that a running job has done.", lambda job: job.steps_done),
    ("langptune_training_steps_planned", "Steps that a running job is to do.", lambda job: job.steps_total),
    ("langptune_training_silent_seconds", "Since the worker's last sign of life.", lambda job: job.silent_seconds),
)


def state(seen: Seen, age: float) -> Iterator[Metric]:
    """The families of one look that is `age` seconds old."""
    jobs = GaugeMetricFamily("langptune_training_jobs", "Jobs of the table by state.", labels=["state"])
    for name, count in seen.jobs_by_state.items():
        jobs.add_metric([name], count)
    yield jobs
    yield from _running(seen.running)
    yield InfoMetricFamily("langptune_release", "The release in force and its versions.", value=dict(seen.release))
    yield GaugeMetricFamily(
        "langptune_publish_open_seconds", "Age of a publish that has not ended.", value=seen.publish_open_seconds
    )
    yield GaugeMetricFamily("langptune_trainer_look_age_seconds", "Age of what is told here.", value=age)


def _running(jobs: tuple[RunningJob, ...]) -> Iterator[Metric]:
    for name, text, of in _OF_JOB:
        family = GaugeMetricFamily(name, text, labels=["training_job"])
        for job in jobs:
            family.add_metric([job.job_id], of(job))
        yield family
    ndcg = GaugeMetricFamily(
        "langptune_training_validation_ndcg", "NDCG at 20 on its validation users.", labels=["training_job", "label"]
    )
    for job in jobs:
        for label, value in job.validation.items():
            ndcg.add_metric([job.job_id, label], value)
    yield ndcg
    for name in STEP_METRICS:
        family = GaugeMetricFamily(
            f"langptune_training_{name}", f"`{name}` of the newest step.", labels=["training_job", "phase"]
        )
        for job in jobs:
            for phase, metrics in job.steps.items():
                if name in metrics:
                    family.add_metric([job.job_id, phase], metrics[name])
        yield family
