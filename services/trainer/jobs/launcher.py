"""How a worker comes to be, is seen, and is ended: the launcher port.

Two launchers: `local_launcher` (processes of this machine) and `kubernetes_launcher` (a Kubernetes Job for each attempt).
A worker outlives the trainer that started it, and whether it lives is not told by a trainer's memory: a later one sees it, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Life(Enum):
    """Whether there is a worker of a job."""

    GONE = "gone"  # or never there
    WAITING = "waiting"  # asked for, but its processes do not run yet
    RUNNING = "running"


class Fault(Enum):
    """What another attempt would be good for."""

    WORKER = "worker"  # it died: another attempt may do better, and is counted
    PLATFORM = "platform"  # its machine was taken away: another attempt costs nothing
    LASTING = "lasting"  # every attempt would end in this way


@dataclass(frozen=True, slots=True)
class Sighting:
    """A look at a job's worker."""

    life: Life
    why: str = ""  # half a sentence. GONE: how it ended, "was ended by signal 9". WAITING: what for, "waits for a node"
    fault: Fault = Fault.WORKER  # GONE, and LASTING also while it waits: for something that will not come


class Launcher(Protocol):
    """Starts and ends workers. Methods raise Unavailable while what runs the workers cannot be asked."""

    keeps_workers: bool  # whether workers go on while no trainer runs; if not, a trainer that stops has jobs handed back

    async def start(self, on_change: Callable[[], None]) -> None:
        """Before everything else; `on_change` is called when there is news of a worker. Raises FailedPrecondition."""

    async def close(self) -> None:
        """Let go of workers without ending them."""

    async def launch(self, job_id: str, attempt: int, processes: int) -> None:
        """Start a worker of that many processes. Raises FailedPrecondition when one is there already or none can be started."""

    async def see(self, job_id: str) -> Sighting:
        """The job's worker, of whatever attempt; GONE only when nothing of it can still run."""

    async def stop(self, job_id: str) -> None:
        """Ask the worker to end: one that runs finishes its step, writes a checkpoint, and hands the job back."""

    async def kill(self, job_id: str) -> None:
        """End the worker at once."""

    def log_of(self, job_id: str) -> str:
        """Where the worker's log is, for people."""
