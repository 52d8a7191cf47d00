"""How a scan runs: operators, for each a reference that is its specification, fast backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernels.common.lazy import public
from kernels.common.operators import operators, register
from kernels.errors import KernelError, ScanNASError

if TYPE_CHECKING:
    from kernels.common.backends import backend_report, resolve_backend, use_backend
    from kernels.common.orders import check_orders
    from kernels.s6.flops import scan_flops
    from kernels.s6.op import cross_scan, selective_scan
    from kernels.ssd.flops import ssd_flops
    from kernels.ssd.op import ssd_scan

register("cross_scan", "kernels.s6.op")
register("ssd_scan", "kernels.ssd.op")

_HOME = {
    "selective_scan": "kernels.s6.op",
    "cross_scan": "kernels.s6.op",
    "check_orders": "kernels.common.orders",
    "backend_report": "kernels.common.backends",
    "resolve_backend": "kernels.common.backends",
    "use_backend": "kernels.common.backends",
    "scan_flops": "kernels.s6.flops",
    "ssd_flops": "kernels.ssd.flops",
    "ssd_scan": "kernels.ssd.op",
}

__all__ = [
    "KernelError",
    "ScanNASError",
    "backend_report",
    "check_orders",
    "cross_scan",
    "operators",
    "resolve_backend",
    "scan_flops",
    "selective_scan",
    "ssd_flops",
    "ssd_scan",
    "use_backend",
]

__getattr__ = public(__name__, _HOME)
