"""Record what a call of the Triton backend does, without a device: real shapes on meta tensors.

A launch is recorded with its grid and every argument; so is what PyTorch's own operators allocate
and move around the launches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.jit import JITFunction

WRITTEN = {
    "forward_kernel": {"y", "ungated", "states"},
    "summary_kernel": {"ends", "sums"},
    "carry_kernel": {"starts"},
    "finish_kernel": {"y", "ungated"},
    "ungate_kernel": {"grad", "grad_z"},
    "backward_kernel": {
        "grad_x", "grad_delta", "grad_A", "grad_B", "grad_C", "grad_D", "grad_bias",
    },
}  # fmt: skip
READ_AND_WRITTEN = {"forward_kernel": {"sums"}, "backward_kernel": {"sums", "scratch"}}


def distinct_bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's elements; what it repeats by a stride of zero counts once."""
    count = 1
    for size, stride in zip(tensor.shape, tensor.stride()):
        count *= size if stride or not size else 1
    return count * tensor.element_size()


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One launch: its kernel, its grid, and every argument by name."""

    kernel: JITFunction
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return self.kernel.fn.__name__

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Return its operands; one that stands in for another that is absent only once."""
        first: dict[int, str] = {}
        for name, value in self.arguments.items():
            if torch.is_tensor(value):
                first.setdefault(id(value), name)
        return {name: self.arguments[name] for name in first.values()}

    @property
    def moved(self) -> int:
        """Return the distinct bytes of its operands, read plus written."""
        twice = READ_AND_WRITTEN.get(self.name, set())
        assert WRITTEN[self.name] | twice <= set(self.arguments)
        return sum(distinct_bytes(t) * (1 + (n in twice)) for n, t in self.tensors.items())


@dataclass
class Recording:
    """launches, in turn; allocations: of operators, in bytes; moved: what operators of PyTorch
    read and write, in bytes."""

    launches: list[Launch] = field(default_factory=list)
    allocations: list[tuple[str, int]] = field(default_factory=list)
    operators: list[tuple[str, int]] = field(default_factory=list)

    @property
    def allocated(self) -> int:
        return sum(size for _, size in self.allocations)

    @property
    def moved(self) -> int:
        """Return the bytes that launches and operators read plus written."""
        of_operators = sum(size for _, size in self.operators)
        return of_operators + sum(launch.moved for launch in self.launches)

    def of(self, name: str) -> Launch:
        """Return the only launch of a kernel."""
        (one,) = [launch for launch in self.launches if launch.name == name]
        return one


class _Operators(TorchDispatchMode):
    """Notes what PyTorch's operators allocate and move."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self.recording = recording

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        inputs = [value for value in args if torch.is_tensor(value)]
        known = {tensor.untyped_storage()._cdata for tensor in inputs}
        new = torch.is_tensor(result) and result.untyped_storage()._cdata not in known
        if new:
            self.recording.allocations.append((name, result.untyped_storage().nbytes()))
        if name.startswith(("empty", "new_empty")) or not (new or name.endswith("_")):
            return result  # Moves nothing: memory without values, or a view.
        read = inputs if new else inputs[1:]
        size = sum(map(distinct_bytes, read)) + distinct_bytes(result)
        self.recording.operators.append((name, size))
        return result


@contextmanager
def recorded() -> Iterator[Recording]:
    """Collect what the block does; no launch runs."""
    recording = Recording()
    real = JITFunction.run

    def run(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        named = dict(zip(self.arg_names, args))
        named |= {name: value for name, value in kwargs.items() if name in self.arg_names}
        options = {name: value for name, value in kwargs.items() if name not in self.arg_names}
        assert set(named) == set(self.arg_names), set(self.arg_names) - set(named)
        recording.launches.append(
            Launch(kernel=self, grid=tuple(grid), arguments=named, options=options)
        )

    JITFunction.run = run
    try:
        with _Operators(recording):
            yield recording
    finally:
        JITFunction.run = real
