"""Random numbers that depend on (seed, index) alone, for generated data.

Philox is a counter-based generator: its output is a function of the key, so image i is the same
whatever was drawn before it, however many there are, and on any machine.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

# The second word of the key holds the image index below this bit and the stream above it.
_STREAM_BIT = 40
_PERMUTATION_STREAM = 2**20


def generator(seed: int, stream: int, index: int) -> np.random.Generator:
    """Return the generator of one (seed, stream, index)."""
    key = np.array([seed, (stream << _STREAM_BIT) + index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def uniforms(seed: int, stream: int, index: np.ndarray, count: int) -> np.ndarray:
    """Return `count` draws in [0, 1) for each index: float64 (n, count)."""
    return np.stack([generator(seed, stream, int(i)).random(count) for i in index])


def permutation(n: int, seed: int) -> np.ndarray:
    """Return the permutation of n that splits are cut from."""
    return generator(seed, _PERMUTATION_STREAM, 0).permutation(n)
