"""The arguments of a scan over the routes of an image, as one frozen record for every backend."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from kernels.common.orders import check_merge, check_steps


class RouteCall(NamedTuple):
    """The arguments of one scan.

    Shapes: `route_axes`; delta decides B, K and L.
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


def route_axes(inner: str, decay: str) -> dict[str, tuple[str, ...]]:
    """Return the axes of each tensor. inner: the last of delta, D and delta_bias. decay: of A."""
    return {
        "delta": (f"B K L {inner}",),
        "A": (decay,),
        "x": ("B L D", "B K L D"),
        "B": ("B K L N",),
        "C": ("B K L N",),
        "D": (f"K {inner}",),
        "delta_bias": (f"K {inner}",),
        "z": ("B L D",),
        "orders": ("K M", "B K M"),
    }


def check(call: RouteCall) -> None:
    """Raise KernelError for what the axes cannot say."""
    check_merge(call.merge)
    check_steps(call.steps, call.delta.shape[2])


def result_shape(call: RouteCall) -> tuple[int, ...]:
    """Return the shape of the result: (B, L, D), or (B, K, L, D) where routes are kept."""
    batch, routes, tokens = call.delta.shape[:3]
    inner = call.x.shape[-1]
    return (batch, tokens, inner) if call.merged else (batch, routes, tokens, inner)
