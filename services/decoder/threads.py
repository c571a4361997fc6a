"""How many CPU threads the arithmetic of a decoder process uses."""

from __future__ import annotations

import torch
from threadpoolctl import threadpool_limits


def set_threads(threads: int) -> None:
    """Of one torch operation and of one numpy product, from now on; numpy's BLAS would take every core, and spin on it."""
    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")
