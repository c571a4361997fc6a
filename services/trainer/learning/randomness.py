"""The state of the process's random number generators: torch (CPU and CUDA), numpy and Python.

Algorithm 1 itself draws from none of them: data order and generation seeds are functions of the job's seed and the step
(`schedule`). They are seeded, kept and restored all the same, so that a library that does draw cannot make a resumed run
another one.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

State = dict[str, Any]


def seed_all(seed: int) -> None:
    """All of them from one number in [0, 2**32)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # CUDA's generators, too


def random_state() -> State:
    """As plain values and tensors, for a checkpoint."""
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, [int(key) for key in keys], position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: State) -> None:
    """The opposite of `random_state`. On another number of GPUs theirs are left as they are."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
