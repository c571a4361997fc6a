"""The seam between the learners and the processes that train one model together.

A learner takes its share of a batch, passes through the model, and steps, through `Parallel` and the `Stepper` that it gives.
Here is the side for one process, which is plain torch; the side for several is DeepSpeed's ZeRO (`zero`). What the learner
computes is the same on both: losses and rewards are those of the whole batch, and a step is taken on the gradient of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from langptune.errors import FailedPrecondition
from services.trainer.learning.optimizer import adamw, gradient_norm, set_rate

Weights = Mapping[str, Tensor]  # by parameter name


class Stepper(Protocol):
    """A model on its way: passes through it, gradients, and the one optimizer that moves it."""

    def forward(self, *inputs: Any) -> Tensor:
        """The function that the stepper was made for; every process calls it equally often between two steps."""

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add the gradient of this process's part of the loss; the parts of all processes add up. `last`: the step follows."""

    def step(self, rate: float) -> float:
        """One optimizer step at learning rate `rate`, after which gradients are gone; returns the Euclidean norm they had."""

    def keep_reference(self) -> None:
        """Remember the present weights as those of the reference policy."""

    def reference(self) -> AbstractContextManager[None]:
        """Within it the model has the reference's weights, for passes without gradients."""

    def state_dict(self) -> dict[str, Any]:
        """Weights, moments and reference, whole, by parameter name: the same whatever processes made it. Kept by rank 0 only."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The opposite of `state_dict`; rank 0's `state` counts. Raises FailedPrecondition if it is of other parameters."""

    def save(self, write: Callable[[Weights], None]) -> None:
        """Call `write`, in rank 0 only, with all parameters of the module, whole, by name."""


class Parallel(Protocol):
    """The processes that train together; all of them make the same calls in the same order."""

    rank: int
    count: int

    def gather(self, rows: Tensor) -> Tensor:  # [N, ...] of this process -> [count * N, ...] of all
        """The rows of all processes in order of rank. Gradients flow to this process's own rows.

        When every process differentiates the same loss of all rows, the gradients that reach the parameters add up to the
        gradient of the whole.
        """

    def total(self, value: float) -> float:
        """The sum over processes."""

    def largest(self, value: int) -> int:
        """The maximum over processes."""

    def stepper(
        self,
        module: nn.Module,
        function: Callable[..., Tensor],
        parameters: Mapping[str, nn.Parameter],
        rate: float,
        weight_decay: float,
    ) -> Stepper:
        """For `function`, which passes through `module` and whose `parameters` learn."""


def share(parallel: Parallel, length: int) -> slice:
    """This process's part of a batch. The configuration sees to it that processes divide batches."""
    each = length // parallel.count
    return slice(parallel.rank * each, (parallel.rank + 1) * each)


class PlainStepper:
    """One process, plain torch."""

    def __init__(
        self,
        module: nn.Module,
        function: Callable[..., Tensor],
        parameters: Mapping[str, nn.Parameter],
        rate: float,
        weight_decay: float,
    ) -> None:
        self._module = module
        self._function = function
        self._parameters = dict(parameters)
        self._reference: dict[str, Tensor] = {}
        self.optimizer = adamw(self._parameters.values(), rate, weight_decay)

    def forward(self, *inputs: Any) -> Tensor:
        return self._function(*inputs)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        torch.autograd.backward(loss)

    def step(self, rate: float) -> float:
        set_rate(self.optimizer, rate)
        norm = gradient_norm(self._parameters.values())
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def keep_reference(self) -> None:
        self._reference = self._copy()

    @contextmanager
    def reference(self) -> Iterator[None]:
        with lent(self._module, self._reference):
            yield

    def state_dict(self) -> dict[str, Any]:
        names = list(self._parameters)
        moments = {names[at]: dict(state) for at, state in self.optimizer.state_dict()["state"].items()}
        return {"weights": self._copy(), "optimizer": moments, "reference": dict(self._reference)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_names(state, self._parameters)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(state["weights"][name])
        moments = {at: state["optimizer"][name] for at, name in enumerate(self._parameters) if name in state["optimizer"]}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self._reference = {name: value.to(self._parameters[name].device) for name, value in state["reference"].items()}

    def save(self, write: Callable[[Weights], None]) -> None:
        write({name: parameter.detach() for name, parameter in self._module.named_parameters()})

    def _copy(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self._parameters.items()}


class OneProcess:
    """Nothing to share and nobody to ask."""

    rank = 0
    count = 1

    def gather(self, rows: Tensor) -> Tensor:
        return rows

    def total(self, value: float) -> float:
        return value

    def largest(self, value: int) -> int:
        return value

    def stepper(
        self,
        module: nn.Module,
        function: Callable[..., Tensor],
        parameters: Mapping[str, nn.Parameter],
        rate: float,
        weight_decay: float,
    ) -> Stepper:
        return PlainStepper(module, function, parameters, rate, weight_decay)


ALONE = OneProcess()


@contextmanager
def lent(module: nn.Module, weights: Weights) -> Iterator[None]:
    """Within it `module` has the `weights`, by parameter name; no copy is made."""
    own = {name: parameter.data for name, parameter in module.named_parameters() if name in weights}
    try:
        for name in own:
            module.get_parameter(name).data = weights[name]
        yield
    finally:
        for name, data in own.items():
            module.get_parameter(name).data = data


def check_names(state: Mapping[str, Any], parameters: Mapping[str, nn.Parameter]) -> None:
    """Raises FailedPrecondition if `state` is of others than `parameters`."""
    if state["weights"].keys() != parameters.keys():
        raise FailedPrecondition("the state holds other parameters than those that learn here", reason="OTHER_PARAMETERS")
