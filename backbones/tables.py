"""Order tables as tensors, one per device.

While a graph is compiled the size of the map is fixed, and a table is a constant of the graph.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Hashable
from functools import cache
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backbones.registry import ORDERS

CACHED_TABLES = 1024
"""How many tables are kept: a network needs one or two for each of its blocks and image sizes."""

_TENSORS: dict[Hashable, Tensor] = {}


@torch.compiler.assume_constant_result
def table(
    make: Callable[..., np.ndarray],
    device: torch.device,
    dtype: torch.dtype,
    *args: bool | int | str,
) -> Tensor:
    """Return `make(*args)` as a tensor; made once for each make, args, device and dtype.

    make is a plain function, args are numbers and scan orders by their JSON: the compiler takes
    no other constants.
    """
    key = (make, device, dtype, args)
    found = _TENSORS.get(key)
    if found is None:
        decoded = (_order(arg) if isinstance(arg, str) else arg for arg in args)
        with torch.inference_mode(False):  # the next user may be a training step
            found = torch.tensor(make(*decoded), dtype=dtype, device=device)
        if type(found) is Tensor:  # not the stand-in of an export, which must not outlive it
            while len(_TENSORS) >= CACHED_TABLES:
                del _TENSORS[next(iter(_TENSORS))]
            _TENSORS[key] = found
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None and type(found) is Tensor:
        # Before torch 2.15 all constants of this function are one input to Dynamo, which takes
        # the second size that it meets for a dynamic one.
        dynamo.mark_static(found)
    return found


@cache
def _order(text: str) -> Any:
    return ORDERS.read(json.loads(text))


def side(size: Any) -> int:
    """Return a side of a map as a plain number, also where shapes are symbolic or traced."""
    return index(size)
