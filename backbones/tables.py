"""Order tables as tensors, one per device.

Shapes are fixed while a graph is compiled, so there a table is a constant of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

_TENSORS: dict[Hashable, Tensor] = {}


@torch.compiler.assume_constant_result
def table(
    make: Callable[..., np.ndarray], args: tuple, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return `make(*args)` as a tensor; made once for each make, args, device and dtype."""
    key = (make, args, device, dtype)
    found = _TENSORS.get(key)
    if found is None:
        found = torch.tensor(make(*args), dtype=dtype, device=device)
        if type(found) is Tensor:  # not the stand-in of an export, which must not outlive it
            _TENSORS[key] = found
    return found


def side(size: Any) -> int:
    """Return a side of a map as a plain number, also where shapes are symbolic or traced."""
    return index(size)
