"""Record the launches of Triton kernels without a device: real shapes on meta tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from triton.runtime.jit import JITFunction


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


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Collect the launches of the block; none of them runs."""
    launches: list[Launch] = []
    real = JITFunction.run

    def run(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        named = dict(zip(self.arg_names, args))
        named |= {name: value for name, value in kwargs.items() if name in self.arg_names}
        options = {name: value for name, value in kwargs.items() if name not in self.arg_names}
        assert set(named) == set(self.arg_names), set(self.arg_names) - set(named)
        launches.append(Launch(kernel=self, grid=tuple(grid), arguments=named, options=options))

    JITFunction.run = run
    try:
        yield launches
    finally:
        JITFunction.run = real
