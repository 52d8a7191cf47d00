"""Checks of the arguments of an operator: every mistake is named before any kernel runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.common.operators import Operator
from kernels.errors import KernelError

IO_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INDEX_DTYPES = (torch.int32, torch.int64)


def check_call(operator: Operator, call: Any) -> None:
    """Raise KernelError unless the tensors of a call fit together, by the operator's axes."""
    sizes: dict[str, int] = {}
    for name, choices in operator.axes.items():
        tensor = getattr(call, name)
        if tensor is not None:
            _bind(name, tensor, choices, sizes)
    for name in operator.axes:
        tensor = getattr(call, name)
        if tensor is None:
            continue
        if tensor.device != call[0].device:
            raise KernelError(
                f"{name} is on {tensor.device} but {call._fields[0]} on {call[0].device}; move one"
            )
        if name in operator.tables:
            if tensor.dtype not in INDEX_DTYPES:
                raise KernelError(f"{name} has dtype {tensor.dtype}; use int32 or int64")
        elif tensor.dtype not in IO_DTYPES:
            raise KernelError(
                f"{name} has dtype {tensor.dtype}; use float32, float16, bfloat16 "
                "(float64 with the reference backend)"
            )
    operator.check(call)


def _bind(name: str, tensor: Tensor, choices: tuple[str, ...], sizes: dict[str, int]) -> None:
    """Bind the axes that are new, and raise unless the others have their sizes."""
    shape = tuple(tensor.shape)
    axes = choices[0].split()
    for choice in choices:
        if len(choice.split()) == len(shape):
            axes = choice.split()
    listed = f"({', '.join(axes)})" if len(axes) > 1 else f"({axes[0]},)"
    known = all(axis in sizes for axis in axes)
    if len(shape) != len(axes) and not known:
        raise KernelError(f"{name} has shape {shape}; expected {len(axes)} axes {listed}")
    if len(shape) == len(axes):
        for axis, size in zip(axes, shape):
            if axis not in sizes:
                sizes[axis] = size
                if size == 0 and axis != "B":
                    raise KernelError(
                        f"{name} has shape {shape}, axes {listed}; "
                        "every axis but the batch needs at least one element"
                    )
    expected = tuple(sizes[axis] for axis in axes)
    if shape != expected:
        raise KernelError(f"{name} has shape {shape}; expected {listed} = {expected}")
