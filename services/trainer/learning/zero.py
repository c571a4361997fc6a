"""Several processes train one model: DeepSpeed's ZeRO behind `parallel`. The only module that knows DeepSpeed.

Stage 2 shards gradients and optimizer states over the processes, stage 3 the parameters too; both compute what one process
computes. Called directly: `deepspeed.initialize` around torch's AdamW, gradient accumulation boundaries set by hand, the
gradients of all processes summed. Left out: stages 0 and 1, pipeline and tensor parallelism.

On the CPU the processes talk through gloo (DS_ACCELERATOR=cpu), on GPUs through NCCL, one process to a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from services.trainer.learning.adapters import OneProductLinear
from services.trainer.learning.config import DistributedConfig, LearningConfig
from services.trainer.learning.optimizer import adamw
from services.trainer.learning.parallel import Stepper, Weights, check_names

if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read when deepspeed is imported

import deepspeed
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)

Told = TypeVar("Told")

_MOMENTS = ("exp_avg", "exp_avg_sq")
_PATIENCE = timedelta(days=7)  # that a process waits for another: one that dies ends them all (torchrun), rank 0 may be long


class ZeroProcesses:
    """The process group of a job under `torch.distributed.run`, which gives rank and addresses in the environment."""

    def __init__(self) -> None:
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # else a C++ extension is compiled at every start
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False, timeout=_PATIENCE)
        self.rank = dist.get_rank()
        self.count = dist.get_world_size()
        self._config = DistributedConfig()
        self._talk = dist.new_group(backend="gloo", timeout=_PATIENCE)  # for what is no tensor on the device

    def configure(self, config: LearningConfig) -> None:
        """Before the first stepper is made."""
        self._config = config.distributed

    def close(self) -> None:
        """Leave the group."""
        dist.destroy_process_group()

    def gather(self, rows: Tensor) -> Tensor:
        """As `Parallel.gather`: this process's own rows stay in its graph."""
        parts = [torch.empty_like(rows) for _ in range(self.count)]
        dist.all_gather(parts, rows.detach().contiguous())
        parts[self.rank] = rows
        return torch.cat(parts)

    def total(self, value: float) -> float:
        return self._reduced(value, dist.ReduceOp.SUM)

    def largest(self, value: int) -> int:
        return int(self._reduced(value, dist.ReduceOp.MAX))

    def _reduced(self, value: float, operation: Any) -> float:
        number = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(number, operation, group=self._talk)
        return float(number)

    def tell(self, message: Told) -> Told:
        """What rank 0 says, to all."""
        box = [message]
        dist.broadcast_object_list(box, src=0, group=self._talk)
        return box[0]

    def hand_out(self, tensor: Tensor) -> Tensor:
        """Rank 0's values, to all; on the CPU."""
        values = tensor.detach().cpu().contiguous()
        dist.broadcast(values, src=0, group=self._talk)
        return values

    def stepper(
        self,
        module: nn.Module,
        function: Callable[..., Tensor],
        parameters: Mapping[str, nn.Parameter],
        rate: float,
        weight_decay: float,
    ) -> Stepper:
        return ZeroStepper(self, self._config, module, function, parameters, rate, weight_decay)


class ZeroStepper:
    """As `Stepper` describes it, over a DeepSpeed engine."""

    def __init__(
        self,
        processes: ZeroProcesses,
        config: DistributedConfig,
        module: nn.Module,
        function: Callable[..., Tensor],
        parameters: Mapping[str, nn.Parameter],
        rate: float,
        weight_decay: float,
    ) -> None:
        self._processes = processes
        self._sharded = config.zero_stage == 3
        self._module = module
        self._parameters = dict(parameters)
        self._reference: dict[str, Tensor] = {}  # stage 3: this process's shards
        self._steps = 0
        for layer in module.modules():
            if isinstance(layer, OneProductLinear):
                layer.one_product = not self._sharded
        optimizer = adamw(self._parameters.values(), rate, weight_decay)
        self._engine, self._zero, _, _ = deepspeed.initialize(
            model=_Entrance(module, function), optimizer=optimizer, config=_engine_config(config)
        )

    def forward(self, *inputs: Any) -> Tensor:
        passed: Tensor = self._engine(*inputs)
        return passed

    def backward(self, loss: Tensor, *, last: bool) -> None:
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * self._processes.count)  # DeepSpeed takes the mean over processes

    def step(self, rate: float) -> float:
        for group in self._zero.param_groups:
            group["lr"] = rate
        self._engine.step()
        self._steps += 1
        return float(self._engine.get_global_grad_norm())

    def keep_reference(self) -> None:
        self._reference = {name: self._own(parameter).clone() for name, parameter in self._parameters.items()}

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The values change places, so that nothing that DeepSpeed holds on to moves."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            own = self._own(parameter)
            present = own.clone()
            own.copy_(self._reference[name])
            self._reference[name] = present

    def _own(self, parameter: nn.Parameter) -> Tensor:
        """What of a parameter is in this process."""
        own: Tensor = parameter.ds_tensor if self._sharded else parameter  # type: ignore[attr-defined]  # DeepSpeed's shard
        return own.data

    def state_dict(self) -> dict[str, Any]:
        """One parameter after the other, so that no process ever holds more than rank 0's copy of the whole."""
        weights = self._collect(self._parameters, safe_get_full_fp32_param)
        moments: dict[str, Any] = {}
        if self._steps:
            for key in _MOMENTS:
                values = self._collect(self._parameters, partial(safe_get_full_optimizer_state, optim_state_key=key))
                for name, value in values.items():
                    moments.setdefault(name, {"step": torch.tensor(float(self._steps))})[key] = value
        return {"weights": weights, "optimizer": moments, "reference": self._whole_reference()}

    def _whole_reference(self) -> dict[str, Tensor]:
        if not self._reference:
            return {}
        with self.reference():
            return self._collect(self._parameters, self._whole)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        names, steps, reference = self._processes.tell(_outline(state) if self._processes.rank == 0 else ((), 0, False))
        check_names({"weights": dict.fromkeys(names)}, self._parameters)
        if reference:
            self._write(self._handed_out(state, "reference"))
            self.keep_reference()
        self._write(self._handed_out(state, "weights"))
        if steps:
            self._begin_moments(steps)
            for key in _MOMENTS:
                for name, value in self._handed_out(state, "optimizer", key):
                    safe_set_full_optimizer_state(self._parameters[name], value, key)
        self._steps = steps

    def _handed_out(self, state: Mapping[str, Any], part: str, key: str | None = None) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._parameters.items():
            if self._processes.rank == 0:
                value = state[part][name] if key is None else state[part][name][key]
            else:
                value = torch.empty(self._shape(parameter))
            yield name, self._processes.hand_out(value).to(self._engine.device)

    @torch.no_grad()
    def _write(self, values: Iterator[tuple[str, Tensor]]) -> None:
        """The parameters as the model sees them, and the optimizer's own copy of them."""
        for name, value in values:
            parameter = self._parameters[name]
            with self._present(parameter, write=True):
                parameter.copy_(value)
            safe_set_full_fp32_param(parameter, value)

    def _begin_moments(self, steps: int) -> None:
        """The optimizer's state as it is after `steps` steps, its values yet to be set; AdamW would make it at its first step."""
        base, zero = self._zero.optimizer, self._zero
        for flat in zero.fp32_partitioned_groups_flat if self._sharded else zero.single_partition_of_fp32_groups:
            base.state[flat] = {"step": torch.tensor(float(steps)), **{key: torch.zeros_like(flat) for key in _MOMENTS}}
        if not self._sharded:
            zero._lazy_init_hp_params_optimizer_state()  # so that the setters by parameter find it

    def save(self, write: Callable[[Weights], None]) -> None:
        whole = self._collect(dict(self._module.named_parameters()), self._whole)
        if self._processes.rank == 0:
            write(whole)

    def _whole(self, parameter: nn.Parameter) -> Tensor:
        with self._present(parameter):
            return parameter.detach().clone()

    def _collect(self, parameters: Mapping[str, nn.Parameter], read: Callable[[nn.Parameter], Tensor]) -> dict[str, Tensor]:
        """Every process takes part in reading; rank 0 keeps the values, on the CPU."""
        kept: dict[str, Tensor] = {}
        for name, parameter in parameters.items():
            value = read(parameter)
            if self._processes.rank == 0:
                kept[name] = value.detach().to("cpu", copy=True)
        return kept

    def _present(self, parameter: nn.Parameter, *, write: bool = False) -> AbstractContextManager[Any]:
        """Within it the parameter is whole in this process; `write`: what rank 0 makes of it is kept."""
        if not self._sharded:
            return nullcontext()
        gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters([parameter], modifier_rank=0 if write else None)
        return gathered

    def _shape(self, parameter: nn.Parameter) -> torch.Size:
        shape: torch.Size = parameter.ds_shape if self._sharded else parameter.shape  # type: ignore[attr-defined]
        return shape


class _Entrance(nn.Module):
    """DeepSpeed runs a module's forward; ours is a function that passes through one."""

    def __init__(self, module: nn.Module, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module = module
        self._function = function

    def forward(self, *inputs: Any) -> Tensor:
        return self._function(*inputs)


def _outline(state: Mapping[str, Any]) -> tuple[tuple[str, ...], int, bool]:
    """Names, optimizer steps, and whether there is a reference."""
    moments = next(iter(state["optimizer"].values()), None)
    return tuple(state["weights"]), int(moments["step"]) if moments else 0, bool(state["reference"])


def _engine_config(config: DistributedConfig) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": config.zero_stage, "contiguous_gradients": True, "overlap_comm": False}
    if config.zero_stage == 3:
        zero["stage3_param_persistence_threshold"] = 0  # every parameter is a shard, so that the reference can take its place
    if config.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,  # DeepSpeed only reports with it; boundaries are set by hand
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0,  # not at all: DeepSpeed would clip to a norm of 1 unasked
        "zero_allow_untested_optimizer": True,  # torch's AdamW: DeepSpeed's own is compiled at run time
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": zero,
    }
