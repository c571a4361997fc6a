"""A training job's plan as tables: what `langptune train start --dry-run` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from langptune.cli.output import console

if TYPE_CHECKING:
    from langptune.client import TrainingPlan

_GIB = 1 << 30


def show_plan(plan: TrainingPlan) -> None:
    """Every hyperparameter, then sizes, memory and time."""
    values = Table(title="hyperparameters")
    values.add_column("name")
    values.add_column("value")
    for name, value in plan.resolved.items():
        values.add_row(name, value)
    console.print(values)
    console.print(_sizes(plan))
    console.print(_memory(plan))
    rate = plan.assumed_flops_per_second / 1e12
    console.print(
        f"{plan.cl_updates:,} CL and {plan.rlso_updates:,} RLSO updates, "
        f"the latter of at most {plan.tokens_per_update:,} tokens each; "
        f"{plan.total_flops:.3g} FLOP in all: {_duration(plan.estimated_seconds)} at an assumed {rate:g} TFLOP/s a process, "
        "generation not counted.",
        highlight=False,
    )


def _sizes(plan: TrainingPlan) -> Table:
    table = Table(title="parameters")
    for column in ("model", "all", "learning"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, every, learning in (
        ("encoder", plan.encoder_parameters, plan.encoder_trainable_parameters),
        ("decoder", plan.decoder_parameters, plan.decoder_trainable_parameters),
    ):
        table.add_row(name, *(f"{every:,}", f"{learning:,}") if every else ("not trained", "-"))
    return table


def _memory(plan: TrainingPlan) -> Table:
    table = Table(title=f"GiB in each of {plan.resolved['distributed.processes']} processes, float32")
    for column in ("ZeRO stage", "weights", "gradients", "optimizer", "activations (estimate)", "together"):
        table.add_column(column, justify="right")
    for stage in plan.memory:
        parts = (stage.weights_bytes, stage.gradient_bytes, stage.optimizer_bytes, stage.activation_bytes, stage.total_bytes)
        table.add_row(str(stage.zero_stage), *(f"{part / _GIB:.2f}" for part in parts))
    return table


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
