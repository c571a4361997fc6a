"""Random numbers by counter: the number that decides a token depends on (seed, history, sample, position) and nothing else.

So a rollout is the same whatever shares its batch, and no generator object is kept per row. The mixing function is splitmix64
(Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def row_keys(seed: int, stream: int, samples: int) -> NDArray[np.uint64]:
    """A key for each of `samples` rows of history `stream`. [samples]"""
    start = np.add(_mix(np.array([seed], dtype=np.uint64)), np.uint64(stream), dtype=np.uint64)
    return _mix(np.add(_mix(start), np.arange(samples), dtype=np.uint64, casting="unsafe"))


def uniforms(keys: NDArray[np.uint64], positions: NDArray[np.uint64]) -> NDArray[np.float32]:
    """A number in (0, 1] for each row at its own position (from 0). [rows], [rows] -> [rows]"""
    bits = _mix(keys + (positions + np.uint64(1)) * _GOLDEN) >> np.uint64(40)
    return (bits.astype(np.float32) + np.float32(1)) * np.float32(2.0**-24)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = np.add(value, _GOLDEN, dtype=np.uint64)
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return value ^ (value >> np.uint64(31))
