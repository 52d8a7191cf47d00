"""Problems for an operator, and how far a backend is from its reference in float64 on them.

Used by the tests of every backend, on whatever device, and by the benchmarks, which check
before they time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kernels.common.dispatch import run as run_call
from kernels.common.operators import Operator

FLOAT32_Y = 1e-5
FLOAT32_GRADIENT = 2e-5
HALF = 2e-2
"""Largest error relative to the largest element; half precision is dominated by its inputs."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A call of an operator in float64, and a gradient for its result."""

    operator: Operator
    call: Any
    grad_y: Tensor

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Return the inputs that are present, by name."""
        named = {name: getattr(self.call, name) for name in self.operator.inputs}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Problem:
        """Round what a network computes to dtype, and its weights to float32 if that is wider."""
        weight = dtype if dtype == torch.float64 else torch.float32
        moved = {
            name: tensor.to(device, weight if name in self.operator.weights else dtype)
            for name, tensor in self.tensors.items()
        }
        for name in self.operator.tables:
            table = getattr(self.call, name, None)
            moved |= {} if table is None else {name: table.to(device)}
        call = self.call._replace(**moved)
        return replace(self, call=call, grad_y=self.grad_y.to(device, dtype))

    def image(self, at: int) -> Problem:
        """Return the problem of one image of the batch."""
        alone = {}
        for name in self.operator.axes:
            tensor, axes = getattr(self.call, name), self.operator.axes[name]
            if tensor is not None:
                ours = next(a.split() for a in axes if len(a.split()) == tensor.dim())
                alone[name] = tensor[at : at + 1] if ours[0] == "B" else tensor
        return replace(self, call=self.call._replace(**alone), grad_y=self.grad_y[at : at + 1])


def run(problem: Problem, backend: str, gradients: bool = True) -> dict[str, Tensor]:
    """Run a problem forward and backward; return y and 'grad_' + the name of each tensor."""
    tensors = {
        name: tensor.detach().clone().requires_grad_(gradients)
        for name, tensor in problem.tensors.items()
    }
    y = run_call(problem.operator, problem.call._replace(**tensors), backend)
    results = {"y": y.detach()}
    if gradients:
        grads = torch.autograd.grad(y, list(tensors.values()), problem.grad_y)
        results |= {f"grad_{name}": grad for name, grad in zip(tensors, grads)}
    return results


def errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Return of each result the largest error relative to its largest element; NaN is infinite."""
    relative = {}
    for name, target in expected.items():
        difference = (found[name].double().cpu() - target.cpu()).abs().max()
        scale = target.abs().max().clamp_min(1e-30).cpu()
        value = float(difference / scale)
        relative[name] = value if value == value else float("inf")
    return relative


def failures(
    case: Any, backend: str, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """Return the results of a backend that are farther from float64 than they may be.

    The reference gets the inputs as rounded to dtype, so that only the backend's error counts.
    """
    rounded = case.problem().to("cpu", dtype)
    expected = run(rounded.to("cpu", torch.float64), "reference")
    found = run(rounded.to(device, dtype), backend)
    half = dtype in (torch.float16, torch.bfloat16)
    bars = {
        name: HALF if half else FLOAT32_Y if name == "y" else FLOAT32_GRADIENT for name in expected
    }
    found_errors = errors(found, expected)
    wrong_dtype = {}
    for name, tensor in found.items():
        is_weight = name.removeprefix("grad_") in rounded.operator.weights
        if tensor.dtype != (torch.float32 if half and is_weight else dtype):
            wrong_dtype[name] = float("inf")
    return {name: e for name, e in found_errors.items() if not e <= bars[name]} | wrong_dtype
