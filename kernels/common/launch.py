"""How Triton kernels are launched: one axis of programs, whatever the batch, on the right device.

A grid has 2^31 - 1 programs along its first axis and 65,535 along the others, so all kernels
take one number and divide it themselves.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from kernels.common.backends import interpreted
from kernels.errors import KernelError

OLDEST = (3, 4)
INTERPRETED = interpreted()
OPTIONS: dict[str, Any] = {} if INTERPRETED else {"enable_fp_fusion": True, "num_stages": 1}
MOST_PROGRAMS = 2**31 - 1
H100_PROCESSORS = 132

if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST:
    raise ImportError(f"triton {triton.__version__} is too old; 3.4 or newer is needed")


def processors(device: torch.device) -> int:
    """Return the multiprocessors of a device; of an H100 where there is none."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return H100_PROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def on(device: torch.device) -> Any:
    """Make a device current, where there are several."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def launch(kernel: Any, programs: int, *arguments: Any, warps: int = 1, **options: Any) -> None:
    """Run a kernel as so many programs; none is no launch.

    Raises: KernelError for more programs than a grid holds.
    """
    if programs > MOST_PROGRAMS:
        raise KernelError(
            f"a launch of {programs} programs; a grid holds 2^31 - 1: split the batch"
        )
    if programs == 0:
        return
    kernel[(programs,)](*arguments, **options, FAST=not INTERPRETED, num_warps=warps, **OPTIONS)


def power_of_two(value: int) -> int:
    """Return the smallest power of two that is not below value."""
    return 1 << max(value - 1, 0).bit_length()


def float32(tensor: Tensor | None) -> Tensor | None:
    """Return weights as the kernels read them."""
    return None if tensor is None else tensor.float().contiguous()


def rows(tensor: Tensor) -> Tensor:
    """Return a tensor whose rows have no gaps: itself, wherever its rows lie, or a copy."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def strides(tensor: Tensor) -> tuple[int, int, int]:
    """Return how far apart images, routes and tokens lie; zero for what the routes share.

    Shapes: (B, L, F) or (B, K, L, F).
    """
    *image, token, _ = tensor.stride()
    return image[0], image[1] if len(image) == 2 else 0, token
