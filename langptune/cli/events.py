"""A training job's events as lines of text; the demo shows them, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langptune.client import StepDone, TrainingEvent

_SHOWN = ("reward_mean", "accuracy", "loss", "kl", "response_tokens")


def step_figures(step: StepDone) -> str:
    """The few figures of a step that are worth a glance, e.g. `reward_mean 0.1624  loss 0.91`."""
    return "  ".join(f"{name} {step.metrics[name]:.4g}" for name in _SHOWN if name in step.metrics)


def event_line(event: TrainingEvent) -> str:
    """One event in one line."""
    from langptune.client import CandidateMade, GuardFired, StateChanged, StepDone

    happened = event.event
    if isinstance(happened, StepDone):
        return f"{happened.step:5}/{happened.steps_total} {happened.phase:4} {step_figures(happened)}"
    if isinstance(happened, StateChanged):
        return f"{happened.state.value}{f': {happened.message}' if happened.message else ''}"
    if isinstance(happened, CandidateMade):
        return f"candidate {happened.release_id}"
    if isinstance(happened, GuardFired):
        return f"{'stopped' if happened.stops else 'warning'}: {happened.message}"
    found = happened.metrics
    cutoff = f"@{found.cutoff}" if found.cutoff else ""
    figures = f"NDCG{cutoff} {found.ndcg:.4f}  recall{cutoff} {found.recall:.4f}  MRR{cutoff} {found.mrr:.4f}"
    return f"validation, {happened.label}: {figures}  ({found.users:,} users)"
