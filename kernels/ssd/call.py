"""The arguments of an SSD scan, as one frozen record that every backend takes."""

from __future__ import annotations

from torch import Tensor

from kernels.common import calls
from kernels.common.calls import RouteCall, route_axes
from kernels.errors import KernelError
from kernels.s6.call import ScanCall

AXES = route_axes(inner="H", decay="K H")


class SsdCall(RouteCall):
    """The arguments of one `ssd_scan`: delta decides H as well, x decides D, B decides N."""

    __slots__ = ()

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


def check(call: SsdCall) -> None:
    """Raise KernelError for what the axes cannot say."""
    calls.check(call)
    heads, inner = call.delta.shape[-1], call.x.shape[-1]
    if inner % heads:
        raise KernelError(f"x has {inner} channels, which delta's {heads} heads do not divide")
