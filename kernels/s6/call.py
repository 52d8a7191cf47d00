"""The arguments of a selective scan, as one frozen record that every backend takes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from kernels.common.orders import check_merge, check_steps


class ScanCall(NamedTuple):
    """The arguments of one `cross_scan`.

    Shapes: as `kernels.cross_scan`; delta decides B, K, L and D, A decides N.
    """

    x: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None = None
    z: Tensor | None = None
    delta_bias: Tensor | None = None
    orders: Tensor | None = None
    delta_softplus: bool = False
    merge: str = "sum"

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Return K, L, D and N."""
        return (*self.delta.shape[1:], self.A.shape[2])

    @property
    def steps(self) -> int:
        """Return M, the tokens that a route visits."""
        return self.delta.shape[2] if self.orders is None else self.orders.shape[-1]

    @property
    def is_partial(self) -> bool:
        """Say whether a route may leave tokens out."""
        return self.steps < self.delta.shape[2]

    @property
    def merged(self) -> bool:
        """Say whether the routes become one result."""
        return self.merge != "none"

    @property
    def x_per_route(self) -> bool:
        """Say whether each route has an input of its own."""
        return self.x.dim() == 4

    @property
    def orders_per_image(self) -> bool:
        """Say whether each image has an order table of its own."""
        return self.orders is not None and self.orders.dim() == 3

    @property
    def scale(self) -> float:
        """Return what the sum of the routes is multiplied by."""
        return 1.0 / self.delta.shape[1] if self.merge == "mean" else 1.0


AXES = {
    "delta": ("B K L D",),
    "A": ("K D N",),
    "x": ("B L D", "B K L D"),
    "B": ("B K L N",),
    "C": ("B K L N",),
    "D": ("K D",),
    "delta_bias": ("K D",),
    "z": ("B L D",),
    "orders": ("K M", "B K M"),
}


def check(call: ScanCall) -> None:
    """Raise KernelError for what the axes cannot say."""
    check_merge(call.merge)
    check_steps(call.steps, call.delta.shape[2])


def result_shape(call: ScanCall) -> tuple[int, ...]:
    """Return the shape of the result: (B, L, D), or (B, K, L, D) where routes are kept."""
    batch, routes, tokens, inner = call.delta.shape
    return (batch, tokens, inner) if call.merged else (batch, routes, tokens, inner)
