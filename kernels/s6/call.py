"""The arguments of a selective scan, as one frozen record that every backend takes."""

from __future__ import annotations

from kernels.common.calls import RouteCall, route_axes

AXES = route_axes(inner="D", decay="K D N")


class ScanCall(RouteCall):
    """The arguments of one `cross_scan`: delta decides D as well, A decides N."""

    __slots__ = ()

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Return K, L, D and N."""
        return (*self.delta.shape[1:], self.A.shape[2])
