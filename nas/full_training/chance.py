"""Randomness as a function of where a training is: nothing of it needs to be stored.

Before anything random happens, the generators that it draws from are seeded by what is about to
be done: (seed, epoch, place in the epoch) for an image, (seed, update, process) for an update. A
training that is continued therefore draws what the uninterrupted one would have drawn, whatever
the number of loader processes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_everything(*place: int | str) -> None:
    """Seed Python's, NumPy's and torch's generators by a place."""
    digest = hashlib.sha256(repr(place).encode()).digest()
    random.seed(digest)
    np.random.seed(int.from_bytes(digest[:4], "big"))
    torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Put Python's and NumPy's generators back as they were; torch's are forked elsewhere."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
