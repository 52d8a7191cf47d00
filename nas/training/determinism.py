"""What a run changes in the process to be reproducible, and puts back afterwards."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import deterministic as _deterministic

# Its attribute is a property of the module, unknown to its stubs.
_memory: Any = _deterministic


@dataclass
class Environment:
    """Notes on operators that are not deterministic on this device."""

    notes: list[str] = field(default_factory=list)


@contextmanager
def reproducible(seed: int, threads: int, device: str) -> Iterator[Environment]:
    """Seed torch, fix its threads and choose deterministic algorithms; undo all of it at the end.

    The random state of the process is the same after as before.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        _memory.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
    )
    environment = Environment()
    devices = [torch.device(device)] if kind == "cuda" else []
    try:
        torch.set_num_threads(threads)
        # Only a warning: a run that is not reproducible and says so is worth more than none.
        torch.use_deterministic_algorithms(True, warn_only=True)
        _memory.fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = False
        with torch.random.fork_rng(devices), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            torch.manual_seed(seed)
            yield environment
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1], warn_only=before[2])
        _memory.fill_uninitialized_memory = before[3]
        torch.backends.cudnn.benchmark = before[4]
    for warning in caught:
        text = str(warning.message).splitlines()[0]
        if "deterministic" in text:
            environment.notes.append(f"not reproducible bit for bit: {text}")
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    environment.notes[:] = list(dict.fromkeys(environment.notes))
