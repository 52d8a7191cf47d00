"""The arguments of an SSD scan, as one frozen record that every backend takes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from kernels.common.orders import check_merge, check_steps
from kernels.errors import KernelError
from kernels.s6.call import ScanCall


class SsdCall(NamedTuple):
    """The arguments of one `ssd_scan`.

    Shapes: as `kernels.ssd_scan`; delta decides B, K, L and H, x decides D, B decides N.
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
    def head(self) -> int:
        """Return P, the channels of a head."""
        return self.x.shape[-1] // self.delta.shape[-1]

    def as_s6(self) -> ScanCall:
        """Return the same scan as S6, which knows a decay and a step for each channel."""
        inner, state = self.x.shape[-1], self.B.shape[-1]

        def each(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.repeat_interleave(self.head, dim=-1)

        A = self.A.repeat_interleave(self.head, dim=-1).unsqueeze(-1).expand(-1, inner, state)
        delta = self.delta.repeat_interleave(self.head, dim=-1)
        changed = {"delta": delta, "A": A, "D": each(self.D), "delta_bias": each(self.delta_bias)}
        return ScanCall(**(self._asdict() | changed))


AXES = {
    "delta": ("B K L H",),
    "A": ("K H",),
    "x": ("B L D", "B K L D"),
    "B": ("B K L N",),
    "C": ("B K L N",),
    "D": ("K H",),
    "delta_bias": ("K H",),
    "z": ("B L D",),
    "orders": ("K M", "B K M"),
}


def check(call: SsdCall) -> None:
    """Raise KernelError for what the axes cannot say."""
    check_merge(call.merge)
    if call.orders is not None:
        check_steps(call.orders.shape[-1], call.delta.shape[2])
    heads, inner = call.delta.shape[-1], call.x.shape[-1]
    if inner % heads:
        raise KernelError(f"x has {inner} channels, which delta's {heads} heads do not divide")


def result_shape(call: SsdCall) -> tuple[int, ...]:
    """Return the shape of the result: (B, L, D), or (B, K, L, D) where routes are kept."""
    batch, routes, tokens, _ = call.delta.shape
    inner = call.x.shape[-1]
    return (batch, routes, tokens, inner) if call.merge == "none" else (batch, tokens, inner)
