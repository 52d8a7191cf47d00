"""What an operator is: one record, from which dispatch, counting and the tests follow.

An operator is a module that holds its record as OPERATOR, and one line
`register(name, module)`. Nothing else in the project names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from kernels.errors import KernelError

NAMESPACE = "scannas"
"""Of the custom ops in a graph: `scannas::cross_scan`."""
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to run an operator.

    module: holds `forward(call, save) -> (result, *kept)`, `backward(call, grad, *kept)` -> dict
        of gradients by input, and `kept(call) -> (shape, dtype) of each tensor kept`.
    devices: types of device that it runs on; none means any.
    automatic: chosen on those devices where nobody asks for another.
    largest_state: the most states a channel, N, that it holds.
    exact: takes float64; the others compute in float32.
    deterministic: gives the same bits for the same inputs every time.
    """

    module: str
    devices: tuple[str, ...] = ()
    automatic: bool = False
    largest_state: int | None = None
    exact: bool = False
    deterministic: bool = True

    def load(self) -> ModuleType:
        """Import what runs it."""
        return import_module(self.module)


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator on the tokens of images.

    call: a NamedTuple of its arguments, tensors first, then settings (bool, str). Its first two
        tensors decide device, dtype and, with `B`, the batch.
    axes: of each tensor its axes, 'B K L D', or several where ranks may differ. Sizes are bound
        in this order, so that who decides stands first. A tensor without B is a weight: it
        stays float32 beside half-precision inputs. One whose name stands in `tables` holds indices.
    check: raises KernelError for what axes cannot say.
    result: the shape of the result of a call. state: its N, or None.
    kept: names of the tensors that a forward leaves for its backward.
    backends: by name; 'reference' is the specification, differentiable and exact.
    flops: counts the operations of a call from the shapes of its arguments, by convention.
    plain: computes a call with what every exporter knows, for graphs that leave PyTorch.
    cases: the module whose CASES the conformance suite runs.
    """

    name: str
    call: type
    axes: Mapping[str, tuple[str, ...]]
    result: Callable[[Any], Shape]
    backends: Mapping[str, Backend]
    flops: Callable[[Mapping[str, Any], str], int]
    plain: Callable[[Any], Any]
    cases: str
    kept: tuple[str, ...] = ()
    tables: tuple[str, ...] = ("orders",)
    check: Callable[[Any], None] = lambda call: None
    state: Callable[[Any], int | None] = lambda call: None

    @property
    def graph_name(self) -> str:
        """Name the operator in a traced graph."""
        return f"{NAMESPACE}::{self.name}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Name the tensors that have gradients."""
        return tuple(
            name for name in self.call._fields if name in self.axes and name not in self.tables
        )  # type: ignore[attr-defined]

    @property
    def weights(self) -> tuple[str, ...]:
        """Name the inputs that a batch shares."""
        return tuple(name for name in self.inputs if "B" not in self.axes[name][0].split())


_homes: dict[str, str] = {}


def register(name: str, module: str) -> None:
    """Enter an operator: the module whose OPERATOR is its record, imported on first use.

    Raises: KernelError when the name is taken.
    """
    if _homes.setdefault(name, module) != module:
        raise KernelError(f"operator {name!r} is registered already, by {_homes[name]}")


def operator(name: str) -> Operator:
    """Return the record of a registered operator.

    Raises: KernelError for an unknown name.
    """
    if name not in _homes:
        raise KernelError(f"operator {name!r} is unknown; use one of {', '.join(_homes)}")
    found: Operator = import_module(_homes[name]).OPERATOR
    return found


def operators() -> tuple[Operator, ...]:
    """Return the records of all registered operators."""
    return tuple(operator(name) for name in _homes)
